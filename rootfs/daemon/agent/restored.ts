import { closeSync, openSync, writeSync } from 'node:fs';
import { viewOf } from '../sys/bytes.ts';
import { syscallSync, valueOf } from '../sys/syscall.ts';

const CLOCK_REALTIME = 0;
/** _IO('R', 0x07) of linux/random.h: what was written to the pool counts from now on. */
const RNDRESEEDCRNG = 0x5207;

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
