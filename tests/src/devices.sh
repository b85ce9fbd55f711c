# What the shell of a test machine can do with its devices. The test sets, before this is read:
# DISK_SUM and PART_SUMS (checksums), URL and PAGE_SUM.
#
# The disk's first 64 MiB are the source, in four parts of 16 MiB; what is behind them is written.

DISK=/dev/nvme0n1
NIC=eth0

# Waits for a condition, half a minute at most.
await() {
    tries=0
    until eval "$1"; do
        tries=$((tries + 1))
        [ $tries -lt 300 ] || { echo "DEVICES: waited for $1 in vain"; return 1; }
        usleep 100000
    done
}

# Waits for the drivers and has an address by DHCP.
devices_up() {
    await "[ -b $DISK ]" && await "[ -d /sys/class/net/$NIC ]" || return 1
    ifconfig lo 127.0.0.1
    ifconfig $NIC up
    await "[ \"\$(cat /sys/class/net/$NIC/carrier)\" = 1 ]" || return 1
    udhcpc -i $NIC -n -q -f -s /lib/dhcp || return 1
    echo "DEVICES: address $(ifconfig $NIC | sed -n 's/.*addr:\([0-9.]*\).*/\1/p')"
    echo "DEVICES: disk on $(grep nvme0q /proc/interrupts | sed 's/ *[0-9]*:[ 0-9]*//')"
    echo "DEVICES: network on $(grep $NIC /proc/interrupts | sed 's/ *[0-9]*:[ 0-9]*//')"
}

# copy FROM COUNT: copies MiB of the source behind it and prints the checksum of what is then read.
copy() {
    dd if=$DISK of=$DISK bs=1M skip="$1" seek=64 count="$2" conv=fsync,notrunc 2>/dev/null
    echo 3 > /proc/sys/vm/drop_caches
    dd if=$DISK bs=1M skip=64 count="$2" 2>/dev/null | crc32
}

# disk_round N: copies one part; each has another checksum, so that a lost write shows.
disk_round() {
    part=$(($1 % 4))
    [ "$(copy $((part * 16)) 16)" = "$(echo $PART_SUMS | cut -d' ' -f$((part + 1)))" ]
}

# Prints how many messages each device can interrupt with.
messages() {
    for name in nvme0q $NIC; do
        echo "DEVICES: $name has $(grep $name /proc/interrupts | grep -c MSI) message interrupts"
    done
}

# on_cpu IRQ CPU: how often it came there.
on_cpu() {
    awk -v irq="$1:" -v cpu="$2" '$1 == irq { print $(cpu + 2) }' /proc/interrupts
}

# Sends an interrupt of the network card to each CPU in turn, and prints to how many it came.
follow() {
    irq=$(grep $NIC-rx /proc/interrupts | cut -d: -f1 | tr -d ' ') came=0
    for cpu in $(seq 0 $(($(nproc) - 1))); do
        echo "$cpu" > "/proc/irq/$irq/smp_affinity_list"
        before=$(on_cpu "$irq" "$cpu")
        net_round
        [ "$(on_cpu "$irq" "$cpu")" -gt "$before" ] && came=$((came + 1))
    done
    echo "DEVICES: messages followed to $came CPUs"
}

# Takes the disk from its driver, which gives its interrupts up, and gives it back.
rebind() {
    device=$(basename "$(readlink -f /sys/class/nvme/nvme0/device)")
    echo "$device" > /sys/bus/pci/drivers/nvme/unbind
    await "[ ! -b $DISK ]" || return 1
    echo "$device" > /sys/bus/pci/drivers/nvme/bind
    await "[ -b $DISK ]"
}

fetch() {
    wget -q -O - "$URL" | crc32
}

net_round() {
    [ "$(fetch)" = "$PAGE_SUM" ]
}

# The data goes once to the disk and back, and once through the network.
devices_once() {
    [ "$(copy 0 64)" = "$DISK_SUM" ] && echo "DEVICES: 64 MiB written and read"
    net_round && echo "DEVICES: 16 MiB fetched"
}

now() {
    cut -d. -f1 /proc/uptime
}

# The interrupts of a device on all CPUs.
interrupts() {
    awk "/$1/ { for (i = 2; \$i ~ /^[0-9]+\$/; i++) sum += \$i } END { print sum + 0 }" /proc/interrupts
}

# rounds ROUND NAME: rounds until the time $end, one at least: a busy host may need as long for it.
rounds() {
    right=0 wrong=0 before=$(interrupts "$2")
    while
        if $1 $((right + wrong)); then right=$((right + 1)); else wrong=$((wrong + 1)); fi
        [ "$(now)" -lt "$end" ]
    do :; done
    echo "DEVICES: $1: $right right, $wrong wrong, $(($(interrupts "$2") - before)) interrupts"
}

# stress SECONDS: both devices at work while every CPU is busy.
stress() {
    end=$(($(now) + $1))
    busy=
    for cpu in $(seq 0 $(($(nproc) - 1))); do
        taskset -c "$cpu" sh -c 'while :; do :; done' &
        busy="$busy $!"
    done
    rounds disk_round nvme0q > /disk-rounds &
    disk=$!
    rounds net_round $NIC > /net-rounds &
    wait $disk $!
    kill $busy
    cat /disk-rounds /net-rounds
    echo "DEVICES: $1 s are over"
}
