import test from 'ava';
import { FakeGuest } from './fake-guest.ts';
import { GuestPool } from './pool.ts';

/** A pool whose looks, starts and ends are written down. */
function setUp(onePerFile: boolean, files = 0): { pool: GuestPool; told: string[] } {
  const told: string[] = [];
  const pool = new GuestPool({
    size: 1,
    files,
    emit: () => undefined,
    signal: new AbortController().signal,
    onePerFile: () => onePerFile,
    lastLook: (guest, file) => {
      told.push(`look at ${guest.machine.id} after ${file}`);
      return Promise.resolve();
    },
    start: (nth) => {
      const { guest } = new FakeGuest(`machine-${nth}`);
      told.push(`start ${guest.machine.id}`);
      const end = (): Promise<void> => {
        told.push(`end ${guest.machine.id}`);
        return Promise.resolve();
      };
      return Promise.resolve({ guest, taint: 0, [Symbol.asyncDispose]: end });
    },
  });
  return { pool, told };
}

const signal = new AbortController().signal;

test('pool: a machine is looked at when its file is over and when the run is', async (t) => {
  const { pool, told } = setUp(true);
  pool.release(await pool.acquire(signal, { file: 'a' }));
  pool.release(await pool.acquire(signal, { file: 'a' }));
  pool.release(await pool.acquire(signal, { file: 'b' }));
  await pool[Symbol.asyncDispose]();
  t.deepEqual(told, [
    'start machine-1',
    'look at machine-1 after a',
    'end machine-1',
    'start machine-2',
    'look at machine-2 after b',
    'end machine-2',
  ]);
});

test('pool: a machine that is discarded, or that no test had, is not looked at', async (t) => {
  const { pool, told } = setUp(true);
  pool.discard(await pool.acquire(signal, { file: 'a' }));
  pool.release(await pool.acquire(signal));
  await pool[Symbol.asyncDispose]();
  t.deepEqual(
    told.filter((line) => line.startsWith('look')),
    [],
  );
});

test('pool: one that was ready takes the place of one that another file has had', async (t) => {
  const { pool, told } = setUp(true, 4);
  for (const file of ['a', 'b', 'c', 'd']) {
    pool.release(await pool.acquire(signal, { file }));
    // The machine for the next file comes up meanwhile.
    await new Promise((resolve) => setImmediate(resolve));
  }
  const count = (what: string): number => told.filter((line) => line.startsWith(what)).length;
  t.is(count('start') - count('end'), 1, told.join(', '));
  await pool[Symbol.asyncDispose]();
  t.is(count('start'), count('end'));
});
