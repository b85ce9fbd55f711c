# What a shell can do with QEMU's edu device (docs/specs/edu.rst), whose DMA it drives as a malicious
# driver would: by its registers, through /dev/mem.

EDU=/sys/bus/pci/devices/$(basename "$(dirname "$(grep -l 0x1234 /sys/bus/pci/devices/*/vendor | head -1)")")

# Enables memory decoding and bus mastering.
edu_up() {
    echo 1 > "$EDU/enable"
    printf '\006' | dd of="$EDU/config" bs=1 seek=4 conv=notrunc 2>/dev/null
    base=$(head -1 "$EDU/resource" | cut -d' ' -f1)
    echo "EDU: $(basename "$EDU") says $(devmem $((base)) 32)"
}

# dma FROM TO COMMAND: moves 4 KiB; command 1 reads memory, 3 writes it.
dma() {
    devmem $((base + 0x80)) 64 "$1"
    devmem $((base + 0x88)) 64 "$2"
    devmem $((base + 0x90)) 64 0x1000
    devmem $((base + 0x98)) 64 "$3"
    while [ $(($(devmem $((base + 0x98)) 64) & 1)) = 1 ]; do :; done
}

# The device's own memory.
INSIDE=0x40000

read_memory() {
    dma "$1" $INSIDE 1
    echo "EDU: read $1"
}

write_memory() {
    dma $INSIDE "$1" 3
    echo "EDU: wrote $1"
}
