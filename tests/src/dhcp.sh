#!/bin/sh
# What udhcpc calls: takes the address that it was given.
[ "$1" = bound ] || exit 0
ifconfig "$interface" "$ip" netmask "$subnet"
route add default gw "$router"
