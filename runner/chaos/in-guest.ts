// Shell commands that a test has its guest run.

export const PANIC = 'echo c >/proc/sysrq-trigger';

/** Lines on the serial port for so long. An emulated one takes about 100 KB in a second. */
export const FLOOD = `timeout 25 yes '${'flood '.repeat(40)}' >/dev/ttyS0;`;

/**
 * Masks all interrupts of every virtio-serial device (PCI capability 0x11, MSI-X; its control word, bit 14): the port
 * stays open, and the guest never hears again that bytes have come.
 */
export const STALL = `
  byte() { od -An -tu1 -j "$1" -N1 "$2" | tr -d ' '; }
  for d in /sys/bus/pci/devices/*; do
    case $(cat $d/vendor):$(cat $d/device) in 0x1af4:0x1003|0x1af4:0x1043) ;; *) continue ;; esac
    at=$(byte 52 $d/config)
    while [ "$at" -ne 0 ]; do
      [ "$(byte $at $d/config)" -eq 17 ] && printf '\\300' | dd of=$d/config bs=1 seek=$((at + 3)) conv=notrunc
      at=$(byte $((at + 1)) $d/config)
    done
  done
  sleep 5`;

/** PCI command register, bit 2: QEMU closes the port. */
export const NO_MEMORY = `
  for d in /sys/bus/pci/devices/*; do
    case $(cat $d/vendor):$(cat $d/device) in
      0x1af4:0x1003|0x1af4:0x1043) printf '\\003' | dd of=$d/config bs=1 seek=4 conv=notrunc ;;
    esac
  done
  sleep 20`;
