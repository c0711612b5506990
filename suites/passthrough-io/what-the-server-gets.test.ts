import type { Client } from '../lib/client.ts';
import type { OpcodeName, RequestRecord } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';

/** Everything but data goes to the server as before, also where files are in passthrough mode (I2). */

const UMASK = 0o027;
/** include/uapi/linux/fuse.h */
const FATTR = {
  mode: 1,
  uid: 2,
  gid: 4,
  size: 8,
  atime: 16,
  mtime: 32,
  fh: 64,
  atimeNow: 128,
  mtimeNow: 256,
  lockOwner: 512,
} as const;
const FSYNC_FDATASYNC = 1;

interface Call {
  readonly opcode: OpcodeName;
  readonly make: (client: Client, fuse: FuseMount) => Promise<unknown>;
  /** Of the node that the request names, and what must stand in it. */
  readonly path: string;
  readonly args: RequestRecord['args'];
  /** What the caller gets when the server does not know the request; default ENOSYS. */
  readonly unknown?: string;
  /** The server is not asked a second time then. */
  readonly once?: boolean;
}

async function onDirectory(
  client: Client,
  path: string,
  what: (fd: number) => Promise<unknown>,
): Promise<void> {
  const fd = await client.open({ path, flags: 'O_RDONLY|O_DIRECTORY' });
  try {
    await what(fd);
  } finally {
    await client.close({ fd });
  }
}

/** In this order: each finds what the one before has made. */
const CALLS: readonly Call[] = [
  {
    opcode: 'MKDIR',
    make: (client, fuse) => client.mkdir({ path: fuse.file('d'), mode: 0o775 }),
    path: '/',
    args: { name: 'd', mode: 0o775 & ~UMASK, umask: UMASK },
  },
  {
    opcode: 'MKNOD',
    make: (client, fuse) => client.mknod({ path: fuse.file('n'), mode: 0o020_666, major: 1, minor: 3 }),
    path: '/',
    args: { name: 'n', mode: 0o020_640, rdev: 0x103, umask: UMASK },
  },
  {
    opcode: 'MKDIR',
    make: (client, fuse) => client.mkdir({ path: fuse.file('sticky'), mode: 0o1777 }),
    path: '/',
    args: { name: 'sticky', mode: 0o1777 & ~UMASK },
  },
  {
    opcode: 'MKNOD',
    make: (client, fuse) => client.mknod({ path: fuse.file('n2'), mode: 0o060_600, major: 10, minor: 0x345 }),
    path: '/',
    // Eight bits of the minor number, twelve of the major one, and the other bits of the minor.
    args: { name: 'n2', mode: 0o060_600, rdev: 0x300a45 },
  },
  {
    opcode: 'SYMLINK',
    make: (client, fuse) => client.symlink({ target: 'over/there', path: fuse.file('s') }),
    path: '/',
    args: { name: 's', target: 'over/there' },
  },
  {
    opcode: 'READLINK',
    make: (client, fuse) => client.readlink({ path: fuse.file('s') }),
    path: '/s',
    args: {},
  },
  {
    opcode: 'LINK',
    make: (client, fuse) => client.link({ from: fuse.file('f'), to: fuse.file('d/link') }),
    path: '/d',
    args: { name: 'link' },
    unknown: 'EPERM',
  },
  {
    opcode: 'RENAME',
    make: (client, fuse) => client.rename({ from: fuse.file('d/link'), to: fuse.file('renamed') }),
    path: '/d',
    args: { name: 'link', newName: 'renamed', newdir: 1 },
  },
  {
    opcode: 'UNLINK',
    make: (client, fuse) => client.unlink({ path: fuse.file('renamed') }),
    path: '/',
    args: { name: 'renamed' },
  },
  {
    opcode: 'SETATTR',
    make: (client, fuse) => client.chmod({ path: fuse.file('f'), mode: 0o4751 }),
    path: '/f',
    args: { valid: FATTR.mode, mode: 0o104_751 },
  },
  {
    opcode: 'SETATTR',
    make: (client, fuse) =>
      client.utimens({ path: fuse.file('f'), atimeNs: 1_000_000_002, mtimeNs: 3_000_000_004 }),
    path: '/f',
    args: { valid: FATTR.atime | FATTR.mtime, atime: 1, atimensec: 2, mtime: 3, mtimensec: 4 },
  },
  {
    opcode: 'SETATTR',
    make: (client, fuse) => client.utimens({ path: fuse.file('f'), atimeNs: null, mtimeNs: 3_000_000_004 }),
    path: '/f',
    args: { valid: FATTR.mtime, mtime: 3, mtimensec: 4 },
  },
  {
    opcode: 'SETATTR',
    make: (client, fuse) => client.utimens({ path: fuse.file('f'), atimeNs: 'now', mtimeNs: 'now' }),
    path: '/f',
    args: { valid: FATTR.atime | FATTR.mtime | FATTR.atimeNow | FATTR.mtimeNow },
  },
  {
    opcode: 'SETATTR',
    make: (client, fuse) => client.chown({ path: fuse.file('d'), uid: 11, gid: 22 }),
    path: '/d',
    args: { valid: FATTR.uid | FATTR.gid, uid: 11, gid: 22 },
  },
  {
    opcode: 'SETATTR',
    make: (client, fuse) => client.truncate({ path: fuse.file('f'), length: 77 }),
    path: '/f',
    args: { valid: FATTR.size | FATTR.lockOwner, size: 77 },
  },
  {
    opcode: 'SETATTR',
    make: async (client, fuse) => {
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
      try {
        await client.ftruncate({ fd, length: 66 });
      } finally {
        await client.close({ fd });
      }
    },
    path: '/f',
    // Without a time: the server sets it as for any truncation.
    args: { valid: FATTR.size | FATTR.fh | FATTR.lockOwner, size: 66 },
  },
  {
    opcode: 'SETXATTR',
    make: (client, fuse) => {
      return client.setxattr({ path: fuse.file('f'), name: 'user.n', data: 'value', flags: 'XATTR_CREATE' });
    },
    path: '/f',
    args: { name: 'user.n', size: 5, flags: 1 },
    unknown: 'EOPNOTSUPP',
    once: true,
  },
  {
    opcode: 'GETXATTR',
    make: (client, fuse) => client.getxattr({ path: fuse.file('f'), name: 'user.n', size: 100 }),
    path: '/f',
    args: { name: 'user.n', size: 100 },
    unknown: 'EOPNOTSUPP',
    once: true,
  },
  {
    opcode: 'LISTXATTR',
    make: (client, fuse) => client.listxattr({ path: fuse.file('f') }),
    path: '/f',
    args: { size: 65_536 },
    unknown: 'EOPNOTSUPP',
    once: true,
  },
  {
    opcode: 'REMOVEXATTR',
    make: (client, fuse) => client.removexattr({ path: fuse.file('f'), name: 'user.n' }),
    path: '/f',
    args: { name: 'user.n' },
    unknown: 'EOPNOTSUPP',
    once: true,
  },
  {
    opcode: 'ACCESS',
    make: (client, fuse) => client.access({ path: fuse.file('f'), mode: 'R_OK|X_OK' }),
    path: '/f',
    args: { mask: 5 },
    unknown: 'ok',
    once: true,
  },
  {
    opcode: 'ACCESS',
    make: (client, fuse) => client.access({ path: fuse.file('f'), mode: 'W_OK' }),
    path: '/f',
    args: { mask: 2 },
    unknown: 'ok',
    once: true,
  },
  {
    opcode: 'ACCESS',
    make: async (client, fuse) => {
      await client.chdir({ path: fuse.file('d') });
      await client.chdir({ path: '/' });
    },
    path: '/d',
    args: { mask: 1 },
    unknown: 'ok',
    once: true,
  },
  {
    opcode: 'STATFS',
    make: (client, fuse) => client.statfs({ path: fuse.file('d') }),
    path: '/d',
    args: {},
  },
  {
    opcode: 'FSYNCDIR',
    make: (client, fuse) => onDirectory(client, fuse.file('d'), (fd) => client.fdatasync({ fd })),
    path: '/d',
    args: { fsync_flags: FSYNC_FDATASYNC },
    unknown: 'ok',
    once: true,
  },
  {
    opcode: 'FSYNCDIR',
    make: (client, fuse) => onDirectory(client, fuse.file('d'), (fd) => client.fsync({ fd })),
    path: '/d',
    args: { fsync_flags: 0 },
    unknown: 'ok',
    once: true,
  },
  {
    opcode: 'RMDIR',
    make: (client, fuse) => client.rmdir({ path: fuse.file('d') }),
    path: '/',
    args: { name: 'd' },
  },
];

/** Errno of a call, or ok. */
async function errnoOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
    return 'ok';
  } catch (error) {
    return (error as { readonly errno?: string }).errno ?? String(error);
  }
}

guestTest('requests that are not about data say whose they are and what they want (I2)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ entryValidS: 1000, attrValidS: 1000 });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  await client.umask({ mask: UMASK });
  for (const { opcode, make, path, args } of CALLS) {
    const after = await fuse.position();
    await make(client, fuse);
    const requests = await fuse.requests({ opcode, after });
    const what = `${opcode} ${JSON.stringify(args)}`;
    t.is(requests.length, 1, what);
    t.like(requests[0], { path, args, uid: 0, gid: 0 }, what);
    const threads = await client.readdir({ path: `/proc/${client.pid}/task` });
    t.true(threads.includes(String(requests[0]?.pid)), `${what}: it names a thread of the caller`);
  }
  await using stranger = await guest.client();
  await stranger.setCredentials({ uid: 4000, gid: 4001 });
  const after = await fuse.position();
  t.is(await stranger.errno.stat({ path: fuse.file('none') }), 'ENOENT');
  t.like((await fuse.requests({ opcode: 'LOOKUP', after }))[0], { uid: 4000, gid: 4001 }, 'of a stranger');
  // The kernel asks for FLUSH whatever becomes of the caller, and says who it is all the same.
  const open = await stranger.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  await stranger.close({ fd: open });
  const [flush] = await fuse.requests({ opcode: 'FLUSH', after });
  t.like(flush, { uid: 4000, gid: 4001 }, 'who closes');
  const threads = await stranger.readdir({ path: `/proc/${stranger.pid}/task` });
  t.true(threads.includes(String(flush?.pid)), 'FLUSH names a thread of who closes');
  await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('what the server says to a request is what the caller gets (I2)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ entryValidS: 1000, attrValidS: 1000 });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  for (const { opcode, make, args } of CALLS) {
    for (const errno of ['EDQUOT', 'EINTR', 'ENAMETOOLONG']) {
      const takeBack = await fuse.fail(opcode, errno, 1);
      t.is(await errnoOf(make(client, fuse)), errno, `${opcode} ${JSON.stringify(args)}`);
      await takeBack();
    }
    await make(client, fuse);
  }
  await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest(
  'a request that the server does not know is an error, or not needed and not sent again (I2)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ entryValidS: 1000, attrValidS: 1000 });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const known = new Set<OpcodeName>();
    for (const { opcode, make, args, unknown = 'ENOSYS', once = false } of CALLS) {
      if (known.has(opcode)) continue;
      if (once) known.add(opcode);
      const after = await fuse.position();
      const takeBack = await fuse.fail(opcode, 'ENOSYS');
      const what = `${opcode} ${JSON.stringify(args)}`;
      for (const time of ['first', 'second']) {
        t.is(await errnoOf(make(client, fuse)), unknown, `${what}: the ${time} time`);
      }
      if (once) t.is((await fuse.requests({ opcode, after })).length, 1, `${what}: how often it was sent`);
      await takeBack();
      // Newer kernels do not ask again for links either.
      if (opcode === 'LINK') await client.link({ from: fuse.backing('f'), to: fuse.backing('d/link') });
      else if (!once) await make(client, fuse);
    }
    await client.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest('statfs tells each number that the server says of space', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  // `fuse_kstatfs`: u64 blocks, bfree, bavail, files, ffree; u32 bsize, namelen, frsize.
  const body = new Uint8Array(80);
  const view = new DataView(body.buffer);
  for (const [at, value] of [1000n, 600n, 500n, 40n, 30n].entries()) view.setBigUint64(8 * at, value, true);
  for (const [at, value] of [4096, 200, 512].entries()) view.setUint32(40 + 4 * at, value, true);
  await fuse.rule({ match: { opcode: 'STATFS' }, action: { do: 'body', body } });
  const told = await client.statfs({ path: fuse.path });
  const space = { bsize: 4096, frsize: 512, blocks: 1000, bfree: 600, bavail: 500 };
  t.like(told, { ...space, files: 40, ffree: 30, namelen: 200 });
});
