import { closeSync, openSync, readSync, writeFileSync, writeSync } from 'node:fs';
import { viewOf } from '../sys/bytes.ts';
import { syscallSync, valueOf } from '../sys/syscall.ts';

const CLOCK_REALTIME = 0;
/** _IO('R', 0x07) of linux/random.h: what was written to the pool counts from now on. */
const RNDRESEEDCRNG = 0x5207;

const AF_INET = 2;
const SOCK_DGRAM = 2;
const ARPHRD_ETHER = 1;
/** linux/sockios.h */
const SIOCSIFHWADDR = 0x8924;
const IFREQ_BYTES = 40;
/** First bytes of the addresses that QEMU gives. */
const QEMU_OUI = [0x52, 0x54, 0x00] as const;

/**
 * What a copy of a saved machine must not share with the others: the time of day and the state of the random
 * number generator.
 *
 * @throws SystemError when the kernel refuses one of them.
 */
export function renewMachine(epochMs: number, entropy: Uint8Array): void {
  const time = new Uint8Array(16);
  viewOf(time).setBigInt64(0, BigInt(Math.floor(epochMs / 1000)), true);
  viewOf(time).setBigInt64(8, BigInt(Math.floor((epochMs % 1000) * 1e6)), true);
  valueOf('clock_settime', syscallSync('clock_settime', CLOCK_REALTIME, time));
  const pool = openSync('/dev/urandom', 'r+');
  try {
    writeSync(pool, entropy);
    valueOf('RNDRESEEDCRNG', syscallSync('ioctl', pool, RNDRESEEDCRNG, 0));
  } finally {
    closeSync(pool);
  }
}

/**
 * A host name and a hardware address that no other copy has. Copies do not see each other; what was made with
 * either, and ends up in a log or a key, is still to be told apart.
 */
export function renameMachine(name: string): void {
  writeFileSync('/proc/sys/kernel/hostname', name);
  const request = new Uint8Array(IFREQ_BYTES);
  request.set(Buffer.from('eth0'));
  viewOf(request).setUint16(16, ARPHRD_ETHER, true);
  request.set([...QEMU_OUI, ...randomBytesOfKernel(3)], 18);
  const socket = valueOf('socket', syscallSync('socket', AF_INET, SOCK_DGRAM, 0));
  try {
    valueOf('SIOCSIFHWADDR', syscallSync('ioctl', socket, SIOCSIFHWADDR, request));
  } finally {
    closeSync(socket);
  }
}

/** Not those of Node: its generator is in this process, and so in every copy of it. */
function randomBytesOfKernel(count: number): Uint8Array {
  const bytes = new Uint8Array(count);
  const pool = openSync('/dev/urandom', 'r');
  try {
    readSync(pool, bytes);
    return bytes;
  } finally {
    closeSync(pool);
  }
}
