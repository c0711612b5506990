import { aclFor } from '../lib/access-control-list.ts';
import { ioctlOn32, needs32Bit } from '../lib/calls-32.ts';
import type { Client } from '../lib/client.ts';
import { u32 } from '../lib/entry-answer.ts';
import { guestTest } from '../lib/guest-test.ts';

/**
 * What a descriptor tells of directories and links on ecryptfs, which have their attributes in memory: no path is
 * walked after a call, which would fetch them from below.
 */

const LONG_AGO_NS = 1_500_000_000_000_000_000;
const FIFO = 0o010_600;

/** What changes the directory `d`, in which `first`, `empty` and `moved` are; `aside` is another directory. */
const CHANGES: Readonly<Record<string, (client: Client, at: string) => Promise<unknown>>> = {
  'a file is made': async (client, at) => client.close({ fd: await client.creat({ path: `${at}/d/file` }) }),
  'a directory is made': (client, at) => client.mkdir({ path: `${at}/d/directory` }),
  'a symlink is made': (client, at) => client.symlink({ target: 'first', path: `${at}/d/symlink` }),
  'a pipe is made': (client, at) => client.mknod({ path: `${at}/d/pipe`, mode: FIFO }),
  'a link is made': (client, at) => client.link({ from: `${at}/d/first`, to: `${at}/d/link` }),
  'a file is removed': (client, at) => client.unlink({ path: `${at}/d/file` }),
  'a directory is removed': (client, at) => client.rmdir({ path: `${at}/d/empty` }),
  'a name in it is changed': (client, at) => client.rename({ from: `${at}/d/first`, to: `${at}/d/renamed` }),
  'a directory is moved away': (client, at) =>
    client.rename({ from: `${at}/d/moved`, to: `${at}/aside/moved` }),
  'a directory is moved to it': (client, at) =>
    client.rename({ from: `${at}/aside/moved`, to: `${at}/d/moved` }),
};

guestTest(
  'a descriptor of a directory on ecryptfs tells times and links of the one below, whatever is made or removed in it',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    for (const name of ['d', 'aside', 'd/empty', 'd/moved'])
      await client.mkdir({ path: ecryptfs.file(name) });
    await client.writeFile({ path: ecryptfs.file('d/first'), data: 'contents' });
    const fd = await client.open({ path: ecryptfs.file('d'), flags: 'O_RDONLY|O_DIRECTORY' });
    for (const [what, change] of Object.entries(CHANGES)) {
      await client.utimens({ path: `${lower}/d`, atimeNs: LONG_AGO_NS, mtimeNs: LONG_AGO_NS });
      await change(client, ecryptfs.path);
      const { mtimeNs, ctimeNs, nlink } = await client.fstat({ fd });
      const below = await client.stat({ path: `${lower}/d` });
      t.deepEqual(
        { mtimeNs, ctimeNs, nlink },
        { mtimeNs: below.mtimeNs, ctimeNs: below.ctimeNs, nlink: below.nlink },
        what,
      );
      t.not(mtimeNs, LONG_AGO_NS, `${what}: it was changed`);
    }
    await client.close({ fd });
  },
);

guestTest(
  'a directory that cannot be removed on ecryptfs keeps its links, one that can has none',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    for (const name of ['full', 'full/inner', 'empty']) await client.mkdir({ path: ecryptfs.file(name) });
    const links: Record<string, number> = {};
    for (const [name, is] of [
      ['full', 'ENOTEMPTY'],
      ['empty', 'ok'],
    ] as const) {
      const path = ecryptfs.file(name);
      const fd = await client.open({ path, flags: 'O_RDONLY|O_DIRECTORY' });
      t.is(await client.errno.rmdir({ path }), is, name);
      links[name] = (await client.fstat({ fd })).nlink;
      await client.close({ fd });
    }
    t.deepEqual(links, { full: 3, empty: 0 });
  },
);

guestTest('a descriptor of a symlink on ecryptfs tells how many names it has', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  const [first, second] = [ecryptfs.file('first'), ecryptfs.file('second')];
  // Their directory has more links than a symlink gets.
  for (const name of ['a', 'b', 'c']) await client.mkdir({ path: ecryptfs.file(name) });
  await client.symlink({ target: 'somewhere', path: first });
  const fd = await client.open({ path: first, flags: 'O_PATH|O_NOFOLLOW' });
  const links = async () => (await client.fstat({ fd })).nlink;
  t.is(await links(), 1);
  await client.link({ from: first, to: second });
  t.is(await links(), 2, 'linked');
  await client.unlink({ path: second });
  t.is(await links(), 1, 'the second name removed');
  await client.unlink({ path: first });
  t.is(await links(), 0, 'both removed');
  await client.close({ fd });
});

guestTest(
  'a descriptor of a symlink on ecryptfs tells that it was changed when it lost a name, and not modified',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    const [first, second] = [ecryptfs.file('first'), ecryptfs.file('second')];
    await client.symlink({ target: 'somewhere', path: first });
    await client.link({ from: first, to: second });
    const fd = await client.open({ path: first, flags: 'O_PATH|O_NOFOLLOW' });
    const path = `/proc/${client.pid}/fd/${fd}`;
    await client.utimens({ path, atimeNs: LONG_AGO_NS, mtimeNs: LONG_AGO_NS });
    t.is((await client.fstat({ fd })).mtimeNs, LONG_AGO_NS);
    await client.unlink({ path: second });
    const { mtimeNs, ctimeNs } = await client.fstat({ fd });
    t.is(mtimeNs, LONG_AGO_NS, 'when it was modified');
    t.is(ctimeNs, (await client.stat({ path: lower })).ctimeNs, 'changed when its directory was');
    await client.close({ fd });
  },
);

guestTest(
  'a rename between directories on ecryptfs leaves each its own owner and mode, by its descriptor',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    const owners = {
      from: { uid: 1001, gid: 1002, mode: 0o040_750 },
      to: { uid: 1003, gid: 1004, mode: 0o040_705 },
    };
    const opened: [keyof typeof owners, number][] = [];
    for (const name of ['from', 'to'] as const) {
      const [path, { uid, gid, mode }] = [ecryptfs.file(name), owners[name]];
      await client.mkdir({ path });
      await client.chown({ path, uid, gid });
      await client.chmod({ path, mode: mode & 0o777 });
      opened.push([name, await client.open({ path, flags: 'O_RDONLY|O_DIRECTORY' })]);
    }
    await client.writeFile({ path: ecryptfs.file('from/f'), data: 'contents' });
    await client.rename({ from: ecryptfs.file('from/f'), to: ecryptfs.file('to/f') });
    for (const [name, fd] of opened) {
      const { uid, gid, mode } = await client.fstat({ fd });
      t.deepEqual({ uid, gid, mode }, owners[name], name);
      await client.close({ fd });
    }
  },
);

/** linux/fs.h */
const [FS_IOC_GETFLAGS, FS_IOC_SETFLAGS] = [0x8008_6601, 0x4008_6602];
const [FS_IOC_GETVERSION, FS_IOC_GETVERSION_32] = [0x8008_7601, 0x8004_7601];

/** Calls after which attributes are those of the directory below. By what it is. `path` walks nothing of ecryptfs. */
const FETCHING: Readonly<
  Record<string, (client: Client, directory: { fd: number; path: string }) => Promise<unknown>>
> = {
  'an attribute is set': (client, { path }) => client.setxattr({ path, name: 'trusted.word', data: 'value' }),
  'its times are set': (client, { path }) => client.utimens({ path, atimeNs: LONG_AGO_NS, mtimeNs: null }),
  'its owner is changed': (client, { path }) => client.chown({ path, uid: 1001, gid: 1002 }),
  'its flags are set, as they are': async (client, { fd }) => {
    const { arg } = await client.ioctl({ fd, request: FS_IOC_GETFLAGS, arg: u32(0) });
    return client.ioctl({ fd, request: FS_IOC_SETFLAGS, arg: arg ?? u32(0) });
  },
  'its generation is asked for': (client, { fd }) =>
    client.ioctl({ fd, request: FS_IOC_GETVERSION, arg: new Uint8Array(8) }),
  'a list of who may is given': (client, { path }) =>
    client.setxattr({ path, name: 'system.posix_acl_access', data: aclFor([1500], 5) }),
};

guestTest(
  'what changed of a directory below ecryptfs is told by its descriptor after a call on it',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    await client.mkdir({ path: ecryptfs.file('d') });
    const fd = await client.open({ path: ecryptfs.file('d'), flags: 'O_RDONLY|O_DIRECTORY' });
    const path = `/proc/${client.pid}/fd/${fd}`;
    for (const [nth, [what, call]] of Object.entries(FETCHING).entries()) {
      await client.chmod({ path: `${lower}/d`, mode: 0o701 + nth });
      await call(client, { fd, path });
      const { mode, uid, gid, ctimeNs } = await client.fstat({ fd });
      const below = await client.stat({ path: `${lower}/d` });
      t.deepEqual(
        { mode, uid, gid, ctimeNs },
        { mode: below.mode, uid: below.uid, gid: below.gid, ctimeNs: below.ctimeNs },
        what,
      );
    }
    await client.close({ fd });
  },
);

guestTest(
  'what changed of a directory below ecryptfs is told after an ioctl of a 32-bit program',
  async (t, guest) => {
    await needs32Bit(guest);
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    await client.mkdir({ path: ecryptfs.file('d'), mode: 0o700 });
    const fd = await client.open({ path: ecryptfs.file('d'), flags: 'O_RDONLY|O_DIRECTORY' });
    await client.chmod({ path: `${lower}/d`, mode: 0o705 });
    const call = { request: FS_IOC_GETVERSION_32, arg: new Uint8Array(16) };
    t.is(await ioctlOn32(guest, client, { pid: client.pid, fd }, call), 0);
    t.is((await client.fstat({ fd })).mode & 0o777, 0o705);
    await client.close({ fd });
  },
);

guestTest('owner and mode of what is no file on ecryptfs are changed below', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  await client.mknod({ path: ecryptfs.file('pipe'), mode: FIFO });
  await client.symlink({ target: 'nowhere', path: ecryptfs.file('symlink') });
  t.is(await client.errno.chmod({ path: ecryptfs.file('pipe'), mode: 0o640 }), 'ok', 'mode of a pipe');
  t.is((await client.lstat({ path: `${lower}/pipe` })).mode & 0o777, 0o640, 'mode of the pipe below');
  for (const [nth, name] of ['pipe', 'symlink'].entries()) {
    const fd = await client.open({ path: ecryptfs.file(name), flags: 'O_PATH|O_NOFOLLOW' });
    const path = `/proc/${client.pid}/fd/${fd}`;
    t.is(await client.errno.chown({ path, uid: 1500 + nth, gid: 1600 }), 'ok', name);
    for (const at of [lower, ecryptfs.path]) {
      const { uid, gid } = await client.lstat({ path: `${at}/${name}` });
      t.deepEqual({ uid, gid }, { uid: 1500 + nth, gid: 1600 }, `${at}/${name}`);
    }
    await client.close({ fd });
  }
});
