# What the shell of a machine with many devices can do with them. The test sets, before this is read:
# PART_SUMS and PAGE_SUM (checksums), PORT of the web server, and CARDS: driver and network of each
# network card.
#
# The disk's first four parts of 4 MiB are the source; what is behind them is written. Each network card
# has a network of its own, whose host is the machine that QEMU runs on.

DISK=/dev/nvme0n1
# The network of the card that has virtual functions, and where they are kept: function/process.
VIRTUAL_NETWORK=$(echo "$CARDS" | sed 's/.*igb://; s/ .*//')
VIRTUALS=/virtuals

# Waits for a condition, half a minute at most.
await() {
    tries=0
    until eval "$1"; do
        tries=$((tries + 1))
        [ $tries -lt 300 ] || { echo "FLEET: waited for $1 in vain"; return 1; }
        usleep 100000
    done
}

# nics DRIVER: its network cards.
nics() {
    for nic in /sys/class/net/*; do
        [ "$(basename "$(readlink "$nic/device/driver")")" = "$1" ] && basename "$nic"
    done
}

# function_of NIC: the PCI function behind a network card, which may be that of a virtio device.
function_of() {
    path=$(readlink -f "/sys/class/net/$1/device")
    [ -e "$path/msi_irqs" ] || path=$(dirname "$path")
    basename "$path"
}

disk_function() {
    basename "$(readlink -f /sys/class/nvme/nvme0/device)"
}

# vectors FUNCTION: its MSI-X interrupts.
vectors() {
    grep -l msix "/sys/bus/pci/devices/$1/msi_irqs/"* | sed 's|.*/||'
}

# arrived FUNCTION: how many MSI-X interrupts came of it.
arrived() {
    # Fields of digits before the first that is none are the CPUs.
    awk -v wanted="$(vectors "$1" | tr '\n' ' ')" '
        BEGIN { split(wanted, list); for (at in list) is[list[at] ":"] = 1 }
        is[$1] { for (field = 2; $field ~ /^[0-9]+$/; field++) sum += $field }
        END { print sum + 0 }' /proc/interrupts
}

# on_cpu IRQ CPU: how often it came there.
on_cpu() {
    awk -v irq="$1:" -v cpu="$2" '$1 == irq { print $(cpu + 2) }' /proc/interrupts
}

# address NIC NETWORK: gives a card its address, and waits for the wire.
address() {
    ifconfig "$1" "10.0.$2.15" netmask 255.255.255.0 up
    await "[ \"\$(cat /sys/class/net/$1/carrier)\" = 1 ]"
}

# up NIC SPACE: whether the wire is there, in the network namespace of a process.
up() {
    nsenter -n -t "$2" ip link show "$1" | grep -q LOWER_UP
}

# virtual NIC: has two virtual functions come. Each is a card beside the physical function in the
# same network, and has a network namespace of its own: so that it is clear which of them a page comes by.
virtual() {
    echo 2 > "/sys/bus/pci/devices/$(function_of "$1")/sriov_numvfs"
    await '[ "$(nics igbvf | wc -l)" = 2 ]' || return 1
    await "up $1 $$" || return 1
    host=16
    : > $VIRTUALS
    for nic in $(nics igbvf); do
        function=$(function_of "$nic")
        unshare -n sleep 1000000 &
        space=$!
        await "[ \$(readlink /proc/$space/ns/net) != \$(readlink /proc/$$/ns/net) ]" || return 1
        ip link set "$nic" netns "$space"
        nsenter -n -t "$space" ifconfig "$nic" "10.0.$VIRTUAL_NETWORK.$host" netmask 255.255.255.0 up
        await "up $nic $space" || return 1
        echo "FLEET: virtual function $function with $(vectors "$function" | wc -l) messages"
        echo "$function/$space" >> $VIRTUALS
        host=$((host + 1))
    done
}

# Has them go.
virtual_down() {
    echo 0 > "/sys/bus/pci/devices/$(function_of "$(nics igb)")/sriov_numvfs"
    for virtual in $(cat $VIRTUALS); do
        kill "${virtual#*/}"
        await "[ ! -e /sys/bus/pci/devices/${virtual%/*} ]" || return 1
    done
    echo "FLEET: virtual functions are gone"
}

# Waits for the drivers and gives each card its address.
fleet_up() {
    await "[ -b $DISK ]" || return 1
    for driver in e1000e virtio_net igb; do
        await "[ -n \"\$(nics $driver)\" ]" || return 1
    done
    ifconfig lo 127.0.0.1
    for card in $CARDS; do
        nic=$(nics "${card%:*}" | head -1)
        address "$nic" "${card#*:}" || return 1
        echo "FLEET: ${card%:*} is $nic, function $(function_of "$nic")"
    done
    virtual "$(nics igb)" || return 1
    echo "FLEET: disk is function $(disk_function)"
}

# disk_round N: copies a part, and reads it back.
disk_round() {
    part=$(($1 % 4))
    dd if=$DISK of=$DISK bs=1M skip=$((part * 4)) seek=16 count=4 conv=fsync,notrunc 2>/dev/null
    echo 3 > /proc/sys/vm/drop_caches
    sum=$(dd if=$DISK bs=1M skip=16 count=4 2>/dev/null | crc32)
    [ "$sum" = "$(echo $PART_SUMS | cut -d' ' -f$((part + 1)))" ]
}

# net_round NETWORK
net_round() {
    [ "$(wget -q -O - "http://10.0.$1.2:$PORT/" | crc32)" = "$PAGE_SUM" ]
}

# virtual_round SPACE: the same by the card in a network namespace.
virtual_round() {
    url="http://10.0.$VIRTUAL_NETWORK.2:$PORT/"
    [ "$(nsenter -n -t "$1" wget -q -O - "$url" | crc32)" = "$PAGE_SUM" ]
}

# The disk's queues: each CPU reads, and its own queue's interrupt comes to it. That is how Linux
# spreads them, and they cannot be moved.
spread() {
    came=0
    for cpu in $(seq 0 $(($(nproc) - 1))); do
        irq=$(awk -v name="nvme0q$((cpu + 1))" '$NF == name { print $1 + 0 }' /proc/interrupts)
        before=$(on_cpu "$irq" "$cpu")
        echo 3 > /proc/sys/vm/drop_caches
        taskset -c "$cpu" dd if=$DISK of=/dev/null bs=64k count=16 2>/dev/null
        [ "$(on_cpu "$irq" "$cpu")" -gt "$before" ] && came=$((came + 1))
    done
    echo "FLEET: $came queues of the disk interrupt their CPUs"
}

# moves NAME IRQ COMMAND: sends an interrupt to each CPU in turn, and has the device interrupt.
moves() {
    came=0
    for cpu in $(seq 0 $(($(nproc) - 1))); do
        echo "$cpu" > "/proc/irq/$2/smp_affinity_list"
        before=$(on_cpu "$2" "$cpu")
        # A card may hear the answer on another of its queues.
        for attempt in $(seq 20); do
            eval "$3"
            [ "$(on_cpu "$2" "$cpu")" -gt "$before" ] && came=$((came + 1)) && break
            usleep 50000
        done
    done
    echo "FLEET: $1 moved to $came CPUs"
}

# The interrupts that can be moved: that of the disk's administration, and the network cards'.
follow() {
    irq=$(awk '$NF == "nvme0q0" { print $1 + 0 }' /proc/interrupts)
    moves disk "$irq" 'echo 1 > /sys/class/nvme/nvme0/rescan_controller'
    for card in $CARDS; do
        driver=${card%:*} network=${card#*:}
        case $driver in
            e1000e) name="$(nics e1000e)-rx" ;;
            virtio_net) name=virtio[0-9]*-input.0 ;;
            igb) name="$(nics igb)-" ;;
        esac
        # The first of those that have come.
        irq=$(awk -v name="^$name" '$NF ~ name && $2 + $3 + $4 + $5 > 0 { print $1 + 0; exit }' /proc/interrupts)
        moves "$driver" "$irq" "net_round $network"
    done
}

# rounds NAME FUNCTION ROUND ARGUMENT: rounds until the time $end, one at least.
rounds() {
    right=0 wrong=0 before=$(arrived "$2")
    while
        argument=$4
        [ "$3" = disk_round ] && argument=$((right + wrong))
        if $3 "$argument"; then right=$((right + 1)); else wrong=$((wrong + 1)); fi
        [ "$(cut -d. -f1 /proc/uptime)" -lt "$end" ]
    do :; done
    echo "FLEET: $1: $right right, $wrong wrong, $(($(arrived "$2") - before)) messages"
}

# stress SECONDS: all devices at work while every CPU is busy.
stress() {
    end=$(($(cut -d. -f1 /proc/uptime) + $1))
    busy= working=
    for cpu in $(seq 0 $(($(nproc) - 1))); do
        taskset -c "$cpu" sh -c 'while :; do :; done' &
        busy="$busy $!"
    done
    rounds disk "$(disk_function)" disk_round > /rounds-disk &
    working=$!
    for card in $CARDS; do
        driver=${card%:*}
        nic=$(nics "$driver" | head -1)
        rounds "$driver" "$(function_of "$nic")" net_round "${card#*:}" > "/rounds-$driver" &
        working="$working $!"
    done
    for virtual in $(cat $VIRTUALS); do
        rounds "${virtual%/*}" "${virtual%/*}" virtual_round "${virtual#*/}" > "/rounds-virtual-${virtual%/*}" &
        working="$working $!"
    done
    wait $working
    kill $busy
    cat /rounds-*
    echo "FLEET: $1 s are over"
}
