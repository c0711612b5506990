import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import type { CallResult } from '../../protocol/syscalls.ts';
import { eventCalls } from './event-calls.ts';
import { fileCalls } from './file-calls.ts';
import { mappingCalls } from './mapping-calls.ts';
import { processCalls } from './process-calls.ts';
import { transferCalls } from './transfer-calls.ts';
import { treeCalls } from './tree-calls.ts';

/** The calls against the kernel that runs this test. */

const dir = await mkdtemp(join(tmpdir(), 'fusegate-calls-'));
test.after.always(() => rm(dir, { recursive: true, force: true }));

async function value<T>(result: Promise<CallResult<T>>): Promise<T> {
  const got = await result;
  if ('errno' in got) throw new Error(got.errno);
  return got.value;
}

const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
const text = (data: Uint8Array): string => Buffer.from(data).toString();
const open = (name: string, flags = 'O_RDWR|O_CREAT'): Promise<number> =>
  value(fileCalls.open({ path: join(dir, name), flags }));

test('reading and writing at positions and through vectors', async (t) => {
  const fd = await open('rw');
  t.is(await value(fileCalls.write({ fd, data: bytes('hello world') })), 11);
  t.is(text(await value(fileCalls.pread({ fd, count: 5, offset: 6 }))), 'world');
  t.is(await value(fileCalls.pwrite({ fd, data: bytes('W'), offset: 6 })), 1);
  t.is(await value(fileCalls.lseek({ fd, offset: -5, whence: 'SEEK_END' })), 6);
  t.is(text(await value(fileCalls.read({ fd, count: 100 }))), 'World');
  t.is(await value(fileCalls.pwritev2({ fd, chunks: [bytes('ab'), bytes('cd')], offset: 0 })), 4);
  t.is(text(await value(fileCalls.preadv2({ fd, counts: [1, 3], offset: 0 }))), 'abcd');
  t.is(await value(fileCalls.writev({ fd, chunks: [bytes('!')] })), 1);
  await value(fileCalls.pwritev2({ fd, chunks: [bytes('tail')], flags: 'RWF_APPEND' }));
  t.is(text(await value(fileCalls.readFile({ path: join(dir, 'rw') }))), 'abcdo World!tail');
  for (const call of [fileCalls.fsync, fileCalls.fdatasync, fileCalls.syncfs])
    t.is(await value(call({ fd })), 0);
  t.is(await value(fileCalls.close({ fd })), 0);
  t.deepEqual(await fileCalls.close({ fd: -1 }), { errno: 'EBADF' });
});

test('sizes and space', async (t) => {
  const fd = await open('size');
  await value(fileCalls.ftruncate({ fd, length: 5000 }));
  await value(fileCalls.fallocate({ fd, mode: 'FALLOC_FL_KEEP_SIZE', offset: 0, length: 8192 }));
  t.is((await value(fileCalls.fstat({ fd }))).size, 5000);
  await value(fileCalls.truncate({ path: join(dir, 'size'), length: 10 }));
  const stat = await value(treeCalls.stat({ path: join(dir, 'size') }));
  t.is(stat.size, 10);
  t.is(stat.mode & 0o777, 0o644);
  await value(fileCalls.posix_fadvise({ fd, offset: 0, length: 0, advice: 'POSIX_FADV_WILLNEED' }));
  await value(fileCalls.readahead({ fd, offset: 0, count: 4096 }));
  await value(fileCalls.sync_file_range({ fd, offset: 0, length: 0, flags: 'SYNC_FILE_RANGE_WRITE' }));
  await value(fileCalls.close({ fd }));
});

test('direct I/O is aligned unless told otherwise', async (t) => {
  const opened = await fileCalls.open({ path: join(dir, 'direct'), flags: 'O_RDWR|O_CREAT|O_DIRECT' });
  if ('errno' in opened) {
    t.is(opened.errno, 'EINVAL', 'this file system has no direct I/O');
    return;
  }
  const fd = opened.value;
  t.is(await value(fileCalls.pwrite({ fd, data: new Uint8Array(4096).fill(7), offset: 0 })), 4096);
  t.is((await value(fileCalls.pread({ fd, count: 4096, offset: 0 })))[4095], 7);
  await value(fileCalls.close({ fd }));
});

test('names', async (t) => {
  const path = (name: string): string => join(dir, 'names', name);
  await value(treeCalls.mkdir({ path: path('') }));
  await value(fileCalls.writeFile({ path: path('a'), data: bytes('a') }));
  await value(treeCalls.link({ from: path('a'), to: path('b') }));
  await value(treeCalls.symlink({ target: 'a', path: path('c') }));
  await value(treeCalls.rename({ from: path('b'), to: path('d'), flags: 'RENAME_NOREPLACE' }));
  t.is(await value(treeCalls.readlink({ path: path('c') })), 'a');
  t.deepEqual(await value(treeCalls.readdir({ path: path('') })), ['a', 'c', 'd']);
  t.is((await value(treeCalls.stat({ path: path('d') }))).nlink, 2);
  t.is((await value(treeCalls.lstat({ path: path('c') }))).mode & 0o170000, 0o120000);
  t.deepEqual(await treeCalls.access({ path: path('nope'), mode: 'R_OK' }), { errno: 'ENOENT' });
  await value(treeCalls.chmod({ path: path('a'), mode: 0o600 }));
  await value(treeCalls.utimens({ path: path('a'), atimeNs: null, mtimeNs: 1_500_000_000e9 }));
  t.is((await value(treeCalls.stat({ path: path('a') }))).mtimeNs, 1_500_000_000e9);
  await value(treeCalls.mknod({ path: path('fifo'), mode: 0o010644 }));
  for (const name of ['a', 'c', 'd', 'fifo']) await value(treeCalls.unlink({ path: path(name) }));
  await value(treeCalls.rmdir({ path: path('') }));
  t.true((await value(treeCalls.statfs({ path: dir }))).blocks > 0);
});

test('a file without a name gets one', async (t) => {
  const fd = await value(fileCalls.open({ path: dir, flags: 'O_TMPFILE|O_RDWR' }));
  await value(fileCalls.write({ fd, data: bytes('tmp') }));
  await value(treeCalls.linkFd({ fd, to: join(dir, 'named') }));
  t.is(text(await value(fileCalls.readFile({ path: join(dir, 'named') }))), 'tmp');
  await value(fileCalls.close({ fd }));
});

test('extended attributes', async (t) => {
  const path = join(dir, 'xattr');
  await value(fileCalls.writeFile({ path, data: bytes('') }));
  const set = await treeCalls.setxattr({ path, name: 'user.colour', data: bytes('red') });
  if ('errno' in set) {
    t.is(set.errno, 'EOPNOTSUPP', 'this file system has no user attributes');
    return;
  }
  t.is(text(await value(treeCalls.getxattr({ path, name: 'user.colour' }))), 'red');
  t.deepEqual(await value(treeCalls.listxattr({ path })), ['user.colour']);
  await value(treeCalls.removexattr({ path, name: 'user.colour' }));
  t.deepEqual(await treeCalls.getxattr({ path, name: 'user.colour' }), { errno: 'ENODATA' });
});

test('mappings', async (t) => {
  const fd = await open('map');
  await value(fileCalls.write({ fd, data: new Uint8Array(8192).fill(65) }));
  const how = { fd, length: 8192, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' };
  const map = await value(mappingCalls.mmap(how));
  await value(mappingCalls.mwrite({ map, offset: 4095, data: bytes('xyz') }));
  t.is(text(await value(mappingCalls.mread({ map, offset: 4094, length: 5 }))), 'AxyzA');
  t.is(text(await value(fileCalls.pread({ fd, count: 3, offset: 4095 }))), 'xyz');
  const again = await open('map');
  await value(mappingCalls.writeFrom({ fd: again, map, offset: 4095, length: 3 }));
  t.is(await value(mappingCalls.readInto({ fd: again, map, offset: 100, length: 4 })), 4);
  t.is(text(await value(fileCalls.pread({ fd, count: 3, offset: 0 }))), 'xyz');
  t.deepEqual(await mappingCalls.readInto({ fd, map, offset: 8190, length: 3 }), { errno: 'EFAULT' });
  await value(fileCalls.close({ fd: again }));
  await value(mappingCalls.msync({ map, flags: 'MS_SYNC' }));
  t.deepEqual(await value(mappingCalls.mincore({ map })), new Uint8Array([1, 1]));
  await value(mappingCalls.madvise({ map, advice: 'MADV_DONTNEED' }));
  t.deepEqual(await mappingCalls.mread({ map, offset: 8190, length: 3 }), { errno: 'EFAULT' });
  await value(mappingCalls.munmap({ map }));
  t.deepEqual(await mappingCalls.munmap({ map }), { errno: 'EINVAL' });
  await value(fileCalls.close({ fd }));
});

test('moving data between descriptors', async (t) => {
  const [from, to] = [await open('from'), await open('to')];
  await value(fileCalls.write({ fd: from, data: bytes('0123456789') }));
  const [out, into] = await value(transferCalls.pipe({}));
  t.is(await value(transferCalls.splice({ fdIn: from, offIn: 2, fdOut: into, length: 3 })), 3);
  t.is(await value(transferCalls.splice({ fdIn: out, fdOut: to, offOut: 0, length: 100 })), 3);
  t.is(await value(transferCalls.sendfile({ fdOut: to, fdIn: from, offset: 5, count: 2 })), 2);
  const copy = { fdIn: from, offIn: 9, fdOut: to, offOut: 5, length: 1 };
  t.is(await value(transferCalls.copy_file_range(copy)), 1);
  const path = join(dir, 'to');
  t.is(Buffer.from(await value(fileCalls.readFile({ path }))).toString('latin1'), '564\0\0' + '9');
});

test('asynchronous I/O completes in the order it was given', async (t) => {
  const fd = await open('aio');
  const written = await value(
    transferCalls.aio({ operations: [{ op: 'pwrite', fd, data: bytes('aio data'), offset: 0 }] }),
  );
  t.is(written[0]?.result, 8);
  const read = await value(
    transferCalls.aio({
      operations: [
        { op: 'pread', fd, count: 3, offset: 0 },
        { op: 'pread', fd, count: 100, offset: 4 },
        { op: 'fsync', fd },
      ],
    }),
  );
  t.deepEqual(
    read.map(({ result, data }) => [result, data === null ? null : text(data)]),
    [
      [3, 'aio'],
      [4, 'data'],
      [0, null],
    ],
  );
  t.deepEqual(await transferCalls.aio({ operations: [{ op: 'fsync', fd: -1 }] }), { errno: 'EBADF' });
});

test('locks', async (t) => {
  const [one, other] = [await open('lock'), await open('lock')];
  await value(processCalls.flock({ fd: one, operation: 'LOCK_EX' }));
  t.deepEqual(await processCalls.flock({ fd: other, operation: 'LOCK_EX|LOCK_NB' }), { errno: 'EAGAIN' });
  const range = { type: 'F_WRLCK', start: 10, length: 5, ofd: true } as const;
  await value(processCalls.setlk({ fd: one, ...range }));
  const found = await value(processCalls.getlk({ fd: other, ...range, start: 12, length: 1 }));
  t.deepEqual([found.type, found.start, found.length], ['F_WRLCK', 10, 5]);
  t.deepEqual(await processCalls.setlk({ fd: other, ...range }), { errno: 'EAGAIN' });
});

test('descriptors: dup, fcntl, adopted ones', async (t) => {
  const fd = await open('dup', 'O_RDWR|O_CREAT|O_APPEND');
  const twin = await value(fileCalls.dup({ fd }));
  await value(processCalls.fcntl({ fd, cmd: 'F_SETFL', arg: 'O_NONBLOCK' }));
  const flags = await value(processCalls.fcntl({ fd: twin, cmd: 'F_GETFL' }));
  t.is(flags & 0o6000, 0o4000, 'O_APPEND is off and O_NONBLOCK on for both');
  const adopted = await value(processCalls.adoptFd({ pid: process.pid, fd }));
  await value(fileCalls.write({ fd, data: bytes('abc') }));
  t.is(await value(fileCalls.lseek({ fd: adopted, offset: 0, whence: 'SEEK_CUR' })), 3, 'one position');
  t.is(await value(fileCalls.dup2({ fd, newFd: twin })), twin);
  const [left, right] = await value(processCalls.socketpair());
  await value(fileCalls.write({ fd: left, data: bytes('s') }));
  t.is(text(await value(fileCalls.read({ fd: right, count: 9 }))), 's');
  t.true((await value(processCalls.memfd_create({ name: 'm' }))) > 2);
  t.true((await value(processCalls.eventfd())) > 2);
});

test('events: what poll says of a pipe', async (t) => {
  const [from, into] = await value(transferCalls.pipe({}));
  t.is(await value(eventCalls.poll({ fd: from })), '');
  t.is(await value(eventCalls.poll({ fd: into })), 'out');
  await value(fileCalls.write({ fd: into, data: bytes('x') }));
  t.is(await value(eventCalls.poll({ fd: from })), 'in');
  t.is(await value(eventCalls.poll({ fd: from, events: 'rdnorm|wrnorm' })), 'rdnorm');
  await value(fileCalls.close({ fd: from }));
  t.is(await value(eventCalls.poll({ fd: into })), 'out|err');
  await value(fileCalls.close({ fd: into }));
  t.is(await value(eventCalls.poll({ fd: into })), 'nval');
});

test('events: what inotify tells of a file, and that it never waits', async (t) => {
  const fd = await open('watched');
  const watcher = await value(eventCalls.inotify_init());
  const watch = await value(
    eventCalls.inotify_add_watch({ fd: watcher, path: join(dir, 'watched'), mask: 'IN_MODIFY|IN_ACCESS' }),
  );
  t.deepEqual(await eventCalls.inotify_read({ fd: watcher }), { errno: 'EAGAIN' });
  await value(fileCalls.write({ fd, data: bytes('abc') }));
  await value(fileCalls.pread({ fd, count: 3, offset: 0 }));
  t.deepEqual(await value(eventCalls.inotify_read({ fd: watcher })), [
    { watch, names: 'modify' },
    { watch, names: 'access' },
  ]);
  for (const one of [fd, watcher]) await value(fileCalls.close({ fd: one }));
});

test('a filesystem that is put together says what is wrong with an option', async (t) => {
  const opened = await treeCalls.fsopen({ type: 'tmpfs' });
  if ('errno' in opened) {
    t.is(opened.errno, 'EPERM', 'this process may not mount');
    return;
  }
  const fd = opened.value;
  const set = { fd, command: 'FSCONFIG_SET_STRING', key: 'size' };
  t.is(await value(treeCalls.fsconfig({ ...set, value: '4k' })), 0);
  t.deepEqual(await fileCalls.read({ fd, count: 100 }), { errno: 'ENODATA' });
  t.deepEqual(await treeCalls.fsconfig({ ...set, value: 'large' }), { errno: 'EINVAL' });
  t.regex(text(await value(fileCalls.read({ fd, count: 100 }))), /^e .*size/);
  t.deepEqual(await treeCalls.fspick({ path: join(dir, 'none') }), { errno: 'ENOENT' });
  await value(fileCalls.close({ fd }));
});
