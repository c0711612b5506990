import test from 'ava';
import type { Request } from '../fuse/request.ts';
import { LockTable } from './locks.ts';

const [READ, WRITE, UNLOCK] = [0, 1, 2];

function lock(owner: string, type: number, start: number, end: number, unique = 1): Request {
  const fields = { owner, type, start, end, pid: Number(owner) };
  return { nodeid: 2, unique, fields } as unknown as Request;
}

test('readers share, a writer does not', (t) => {
  const table = new LockTable();
  table.setlk(lock('1', READ, 0, 9));
  t.notThrows(() => table.setlk(lock('2', READ, 0, 9)));
  t.throws(() => table.setlk(lock('3', WRITE, 5, 6)), { message: /EAGAIN/ });
  t.notThrows(() => table.setlk(lock('3', WRITE, 10, 20)));
});

test('unlocking the middle leaves both ends', (t) => {
  const table = new LockTable();
  table.setlk(lock('1', WRITE, 0, 100));
  table.setlk(lock('1', UNLOCK, 40, 60));
  t.notThrows(() => table.setlk(lock('2', WRITE, 40, 60)));
  t.throws(() => table.setlk(lock('2', WRITE, 39, 39)));
  t.throws(() => table.setlk(lock('2', WRITE, 61, 61)));
});

test('a flock and a POSIX lock do not see each other', (t) => {
  const table = new LockTable();
  table.setlk(lock('1', WRITE, 0, 9));
  const whole = lock('2', WRITE, 0, 9);
  whole.fields['lk_flags'] = 1;
  t.notThrows(() => table.setlk(whole));
});

test('a waiting lock is granted when the holder goes', async (t) => {
  const table = new LockTable();
  table.setlk(lock('1', WRITE, 0, 9));
  const waiting = table.setlkw(lock('2', WRITE, 0, 9, 7));
  table.dropOwner(2, '1');
  t.is((await waiting).length, 0);
});

test('an interrupted wait ends with EINTR', async (t) => {
  const table = new LockTable();
  table.setlk(lock('1', WRITE, 0, 9));
  const waiting = table.setlkw(lock('2', WRITE, 0, 9, 7));
  table.interrupt(7);
  await t.throwsAsync(waiting, { message: /EINTR/ });
});
