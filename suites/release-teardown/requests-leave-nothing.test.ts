import { aclFor } from '../lib/access-control-list.ts';
import { bytes, concat } from '../lib/bytes.ts';
import type { BatchCall, Client } from '../lib/client.ts';
import { entryAnswer, u32, u64 } from '../lib/entry-answer.ts';
import { NotifyCode, OpenFlag } from '../lib/fuse-abi.ts';
import type { FuseMount, FuseOptions } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { IOCTL_IN, IOCTL_OUT, ioctlAnswer, ioctlNumber } from '../lib/ioctl-answer.ts';
import {
  KMALLOC,
  leaveNothing,
  leavesNoMemory,
  on,
  onOpen,
  PAGES,
  ROUNDS,
  TIMES,
  type Part,
} from '../lib/leaks.ts';
import { initBody, openBody, outHeader } from '../lib/raw-server.ts';
import { mountWritebackCache, WRITEBACK_CACHE } from '../lib/writeback-cache.ts';

/** What is asked of the server often leaves no object in the kernel, whatever it answers. */

const CACHES = ['filp', 'cred_jar', 'cred', 'dentry', 'fuse_inode', 'fuse_request', 'pid', ...KMALLOC];

const DATA = { make: { length: 5000, seed: 1 } };
const GROUP = 4242;
/** Not all is asked for again before each call. Seconds. */
const BELIEVED = { entryValidS: 1000, attrValidS: 1000 } as const;
/** Of the INIT of a connection (FUSE_REQ_ID_STEP of fs/fuse). */
const FIRST_UNIQUE = 2n;
const ECHO = ioctlNumber(IOCTL_IN | IOCTL_OUT, 8);

interface Work {
  readonly options?: FuseOptions;
  readonly prepare?: (fuse: FuseMount, client: Client) => Promise<unknown>;
  readonly calls: (fuse: FuseMount) => readonly Part[];
  /** Calls of a round that fail: `open: EIO`. Default none. */
  readonly fails?: readonly string[];
}

/** Reads, writes and what else there is about data. */
const dataCalls = (fuse: FuseMount): readonly Part[] => [
  onOpen({ path: fuse.file('f'), flags: 'O_RDWR' }, (fd) => [
    { call: 'pwrite', args: { fd, data: DATA, offset: 0 } },
    { call: 'fsync', args: { fd } },
    { call: 'pread', args: { fd, count: 5000, offset: 0 } },
    { call: 'fallocate', args: { fd, offset: 0, length: 30_000 } },
    { call: 'lseek', args: { fd, offset: 0, whence: 'SEEK_HOLE' } },
    { call: 'ftruncate', args: { fd, length: 100 } },
  ]),
  onOpen({ path: fuse.file('f'), flags: 'O_RDWR|O_DIRECT' }, (fd) => [
    { call: 'pwrite', args: { fd, data: DATA, offset: 0 } },
    { call: 'pread', args: { fd, count: 5000, offset: 0 } },
  ]),
];

/** Calls that make a name. */
const makers: readonly ((path: string) => BatchCall)[] = [
  (path) => on('mknod', path, { mode: 0o100_644 }),
  (path) => on('mkdir', path),
  (path) => on('symlink', path, { target: 'somewhere' }),
  (path) => on('open', path, { flags: 'O_RDWR|O_CREAT', mode: 0o600 }),
];

const WORK: Readonly<Record<string, Work>> = {
  'changes of names': {
    options: { ...BELIEVED, root: 'tmpfs', init: { addFlags: ['CREATE_SUPP_GROUP'] } },
    async prepare(fuse, client) {
      await client.mkdir({ path: fuse.backing('d') });
      await client.chown({ path: fuse.backing('d'), uid: 0, gid: GROUP });
      await client.setCredentials({ uid: 0, gid: 0, groups: [GROUP] });
    },
    calls: (fuse) => {
      const [a, b] = [fuse.file('d/a'), fuse.file('d/b')];
      return [
        onOpen({ path: a, flags: 'O_RDWR|O_CREAT|O_EXCL', mode: 0o600 }, () => []),
        { call: 'link', args: { from: a, to: b } },
        { call: 'rename', args: { from: a, to: b } },
        { call: 'unlink', args: { path: a } },
        { call: 'rename', args: { from: b, to: a } },
        { call: 'unlink', args: { path: a } },
        on('mknod', a, { mode: 0o100_644 }),
        { call: 'unlink', args: { path: a } },
        on('symlink', a, { target: 'somewhere' }),
        on('readlink', a),
        { call: 'unlink', args: { path: a } },
        on('mkdir', a),
        on('readdir', fuse.file('d')),
        on('rmdir', a),
        on('lstat', a),
      ];
    },
    fails: ['lstat: ENOENT'],
  },
  'requests that are refused': {
    async prepare(fuse) {
      for (const opcode of ['OPEN', 'OPENDIR', 'MKNOD', 'MKDIR', 'SYMLINK', 'CREATE'] as const) {
        await fuse.fail(opcode, 'EIO');
      }
    },
    calls: (fuse) => [
      on('lstat', fuse.file('n')),
      ...makers.map((call) => call(fuse.file('n'))),
      on('open', fuse.file('f'), { flags: 'O_RDONLY' }),
      on('readdir', fuse.path),
    ],
    fails: [
      'lstat: ENOENT',
      'mknod: EIO',
      'mkdir: EIO',
      'symlink: EIO',
      'open: EIO',
      'open: EIO',
      'readdir: EIO',
    ],
  },
  'answers of a file without a type': {
    async prepare(fuse) {
      const body = entryAnswer({ nodeid: 4711n, entryValidS: 0 });
      for (const opcode of ['MKNOD', 'MKDIR', 'SYMLINK'] as const) {
        await fuse.rule({ match: { opcode }, action: { do: 'body', body } });
      }
      const created = concat(body, openBody(1n, 0, 0));
      await fuse.rule({ match: { opcode: 'CREATE' }, action: { do: 'body', body: created } });
      await fuse.rule({ match: { opcode: 'LOOKUP', path: '/bad' }, action: { do: 'body', body } });
    },
    calls: (fuse) => [...makers.map((call) => call(fuse.file('n'))), on('lstat', fuse.file('bad'))],
    fails: ['mknod: EIO', 'mkdir: EIO', 'symlink: EIO', 'open: EIO', 'lstat: EIO'],
  },
  'attributes, locks and other requests': {
    options: { ...BELIEVED, init: { addFlags: ['POSIX_ACL', 'POSIX_LOCKS', 'FLOCK_LOCKS'] } },
    async prepare(fuse) {
      await fuse.rule({
        match: { opcode: 'IOCTL' },
        action: { do: 'body', body: ioctlAnswer(0, bytes('answered')) },
      });
    },
    calls: (fuse) => {
      const f = fuse.file('f');
      const acl = 'system.posix_acl_access';
      return [
        on('setxattr', f, { name: 'user.a', data: bytes('value') }),
        on('getxattr', f, { name: 'user.a' }),
        on('listxattr', f),
        on('removexattr', f, { name: 'user.a' }),
        on('setxattr', f, { name: acl, data: aclFor([7, 8, 9], 6) }),
        on('getxattr', f, { name: acl }),
        on('removexattr', f, { name: acl }),
        on('chmod', f, { mode: 0o600 }),
        on('statfs', fuse.path),
        on('access', f, { mode: 'R_OK' }),
        onOpen({ path: f, flags: 'O_RDWR' }, (fd) => [
          { call: 'setlk', args: { fd, type: 'F_WRLCK', start: 0, length: 10 } },
          { call: 'getlk', args: { fd, type: 'F_WRLCK', start: 0, length: 10 } },
          { call: 'flock', args: { fd, operation: 'LOCK_EX' } },
          { call: 'ioctl', args: { fd, request: ECHO, arg: bytes('asked of') } },
          { call: 'poll', args: { fd } },
          { call: 'fstat', args: { fd } },
          { call: 'syncfs', args: { fd } },
        ]),
      ];
    },
  },
  'rounds of cached reads and writes': { options: { ...BELIEVED, root: 'tmpfs' }, calls: dataCalls },
  'rounds of direct reads and writes': {
    options: { ...BELIEVED, root: 'tmpfs' },
    prepare: (fuse) => fuse.answerOpen('OPEN', { openFlags: OpenFlag.DIRECT_IO }),
    calls: dataCalls,
  },
  'rounds of reads and writes in the writeback cache': {
    options: { ...BELIEVED, root: 'tmpfs', init: WRITEBACK_CACHE },
    calls: dataCalls,
  },
};

for (const [what, { options, prepare, calls, fails }] of Object.entries(WORK)) {
  guestTest(`${ROUNDS} ${what} leave no objects in the kernel (C19)`, async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off', ...options });
    await using client = await guest.client({ callMs: 60_000 });
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    await prepare?.(fuse, client);
    await leaveNothing(t, { guest, client, caches: CACHES }, calls(fuse), fails);
  });
}

guestTest(
  `${PAGES * TIMES} pages that are written back to the server leave no memory in use (C19)`,
  async (t, guest) => {
    await using fuse = await mountWritebackCache(guest, { root: 'tmpfs' });
    await using client = await guest.client({ callMs: 60_000 });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_CREAT' });
    const data = { make: { length: PAGES * 4096, seed: 1 } };
    const calls: BatchCall[] = [
      { call: 'pwrite', args: { fd, data, offset: 0 } },
      { call: 'fsync', args: { fd } },
    ];
    await leavesNoMemory(t, guest, { client, calls });
    await client.close({ fd });
  },
);

/** A notification as it is written to the device: `fuse_out_header` with its code, and what it says. */
function notification(code: keyof typeof NotifyCode, ...parts: readonly Uint8Array[]): Uint8Array {
  const body = concat(...parts);
  return concat(outHeader({ unique: 0n, error: NotifyCode[code], bodyBytes: body.length }), body);
}

guestTest(`${ROUNDS} notifications of each kind leave no objects in the kernel (C19)`, async (t, guest) => {
  await using fuse = await guest.mountFuse({ passthrough: 'off', entryValidS: 100_000 });
  await using client = await guest.client({ callMs: 60_000 });
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  const f = u64(BigInt(await fuse.nodeid('/f')));
  const device = await fuse.server.lendDevice(client);
  const [root, none, length, name] = [u64(1n), u64(0n), u32(5), bytes('f\0')];
  const tell = (code: keyof typeof NotifyCode, ...parts: readonly Uint8Array[]): BatchCall => ({
    call: 'write',
    args: { fd: device, data: notification(code, ...parts) },
  });
  const look = on('lstat', fuse.file('f'));
  const round = [
    look,
    tell('STORE', f, none, length, u32(0), bytes('12345')),
    tell('RETRIEVE', none, f, none, length, u32(0)),
    tell('INVAL_INODE', f, none, none),
    tell('INVAL_ENTRY', root, u32(1), u32(0), name),
    look,
    tell('DELETE', root, f, u32(1), u32(0), name),
    tell('INVAL_ENTRY', root, u32(1), u32(0), bytes('n\0')),
    tell('DELETE', root, f, u32(1), u32(0), bytes('n\0')),
  ];
  await leaveNothing(t, { guest, client, caches: CACHES }, round, ['write: ENOENT', 'write: ENOENT']);
  await client.close({ fd: device });
  await client.close({ fd });
});

guestTest(`${ROUNDS} connections leave no objects in the kernel (C19)`, async (t, guest) => {
  await using client = await guest.client({ callMs: 60_000 });
  const target = await guest.directory('area', 'fuse');
  const device = { path: '/dev/fuse', flags: 'O_RDWR' } as const;
  // Whoever opens it next gets the same number.
  const number = await client.open(device);
  await client.close({ fd: number });
  const mount = (options: string): BatchCall => ({
    call: 'mount',
    args: { source: 'device', target, type: 'fuse', options: `fd=${number},${options}` },
  });
  const owner = 'user_id=0,group_id=0';
  const umount: BatchCall = { call: 'umount2', args: { target } };
  const init = concat(outHeader({ unique: FIRST_UNIQUE, bodyBytes: 64 }), initBody(31));
  const round = [
    onOpen(device, (fd) => [
      mount(`rootmode=40000,subtype=answered,${owner}`),
      { call: 'read', args: { fd, count: 2 * 1024 * 1024 } },
      { call: 'write', args: { fd, data: init } },
      umount,
    ]),
    onOpen(device, () => [mount(`rootmode=40000,${owner}`), umount]),
    onOpen(device, () => [mount(`rootmode=100000,${owner}`)]),
    onOpen(device, () => [mount(owner)]),
    onOpen(device, () => [mount(`rootmode=40000,nothing=1,${owner}`)]),
  ];
  const fails = ['mount: ENOTDIR', 'mount: EINVAL', 'mount: EINVAL'];
  await leaveNothing(t, { guest, client, caches: CACHES }, round, fails);
});
