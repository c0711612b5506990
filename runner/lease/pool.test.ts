import test from 'ava';
import { FakeGuest } from './fake-guest.ts';
import { GuestPool } from './pool.ts';

/** A pool whose looks, starts and ends are written down. */
function setUp(
  filesPerMachine: number,
  files = 0,
  size = 1,
): { readonly pool: GuestPool; readonly told: string[] } {
  const told: string[] = [];
  const pool = new GuestPool({
    size,
    files,
    emit: () => undefined,
    signal: new AbortController().signal,
    filesPerMachine: () => filesPerMachine,
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
  const { pool, told } = setUp(1);
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
  const { pool, told } = setUp(1);
  pool.discard(await pool.acquire(signal, { file: 'a' }));
  pool.release(await pool.acquire(signal));
  await pool[Symbol.asyncDispose]();
  t.deepEqual(
    told.filter((line) => line.startsWith('look')),
    [],
  );
});

test('pool: one that was ready takes the place of one that another file has had', async (t) => {
  const { pool, told } = setUp(1, 4);
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

test('pool: a machine serves as many files as it may, and the next is started with the last of them', async (t) => {
  const { pool, told } = setUp(2, 5);
  for (const file of ['a', 'a', 'b', 'b', 'c', 'd', 'e']) {
    const pooled = await pool.acquire(signal, { file });
    // The machine for the next file comes up meanwhile.
    await new Promise((resolve) => setImmediate(resolve));
    told.push(`${file} on ${pooled.guest.machine.id}`);
    pool.release(pooled);
  }
  await pool[Symbol.asyncDispose]();
  t.deepEqual(
    told.filter((line) => !line.startsWith('look')),
    [
      ...['start machine-1', 'a on machine-1', 'a on machine-1'],
      ...['start machine-2', 'b on machine-1', 'b on machine-1'],
      ...['end machine-1', 'c on machine-2'],
      ...['start machine-3', 'd on machine-2'],
      ...['end machine-2', 'e on machine-3', 'end machine-3'],
    ],
  );
});

for (const [files, size, started] of [
  [2, 2, 2],
  [1, 2, 1],
  [2, 1, 1],
] as const) {
  test(`pool: before anybody asks ${started} of ${size} machines come up for ${files} files`, async (t) => {
    const { pool, told } = setUp(1, files, size);
    pool.release(await pool.acquire(signal));
    pool.warmUp();
    t.deepEqual(
      told,
      Array.from({ length: started }, (_, at) => `start machine-${at + 1}`),
    );
    const first = await pool.acquire(signal, { file: 'a' });
    t.is(first.guest.machine.id, 'machine-1');
    pool.release(first);
    await pool[Symbol.asyncDispose]();
  });
}
