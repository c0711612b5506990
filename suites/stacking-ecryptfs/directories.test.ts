import { text } from '../lib/bytes.ts';
import type { BatchCall, Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import { isListedInParts } from '../lib/list-in-parts.ts';

/** Directories of ecryptfs are read from those below. */

const LONG_AGO_NS = 1_500_000_000_000_000_000;

guestTest(
  'a directory of ecryptfs is read in parts, and on from where it was sought to',
  async (t, guest) => {
    await using client = await guest.client();
    // Positions of ext4 are hashes, too large for a double.
    const lower = await guest.directory('tmpfs', 'encrypted');
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    const names = Array.from({ length: 12 }, (_each, nth) => `name-${nth}`);
    for (const name of names) await client.mkdir({ path: ecryptfs.file(name) });
    await isListedInParts(t, client, { path: ecryptfs.path, names });
  },
);

guestTest('a directory on ecryptfs is no file to read from', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  for (const path of [lower, ecryptfs.path]) {
    const fd = await client.open({ path, flags: 'O_RDONLY|O_DIRECTORY' });
    t.is(await client.errno.read({ fd, count: 100 }), 'EISDIR', path);
    await client.close({ fd });
  }
});

guestTest(
  'a rename on ecryptfs changes the directory that it goes to, and ends the file that it replaces',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    for (const name of ['from', 'to']) await client.mkdir({ path: ecryptfs.file(name) });
    await client.mkdir({ path: ecryptfs.file('from/d') });
    for (const name of ['from/f', 'to/f']) await client.writeFile({ path: ecryptfs.file(name), data: name });
    const fd = await client.open({ path: ecryptfs.file('to/f'), flags: 'O_RDONLY' });
    const to = await client.open({ path: ecryptfs.file('to'), flags: 'O_RDONLY|O_DIRECTORY' });
    await client.utimens({ path: `${lower}/to`, atimeNs: LONG_AGO_NS, mtimeNs: LONG_AGO_NS });
    await client.rename({ from: ecryptfs.file('from/f'), to: ecryptfs.file('to/f') });
    const replaced = await client.fstat({ fd });
    t.is(replaced.nlink, 0, 'the file that was there has no name any more');
    await client.rename({ from: ecryptfs.file('from/d'), to: ecryptfs.file('to/d') });
    const { nlink, mtimeNs } = await client.fstat({ fd: to });
    const below = await client.stat({ path: `${lower}/to` });
    t.deepEqual(
      [nlink, mtimeNs],
      [below.nlink, below.mtimeNs],
      'links and time of the directory, by its descriptor',
    );
    t.not(mtimeNs, LONG_AGO_NS);
    for (const each of [fd, to]) await client.close({ fd: each });
  },
);

guestTest('a file that a rename on ecryptfs replaces gives its space below back', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('tmpfs', 'encrypted');
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  await client.writeFile({ path: ecryptfs.file('to'), data: 'replaced' });
  const before = (await client.statfs({ path: lower })).ffree;
  await client.writeFile({ path: ecryptfs.file('from'), data: 'moved' });
  await client.rename({ from: ecryptfs.file('from'), to: ecryptfs.file('to') });
  t.is((await client.statfs({ path: lower })).ffree, before);
});

/** What is made and removed again by its path. */
const REMOVED: Readonly<
  Record<
    string,
    { readonly make: (client: Client, path: string) => Promise<unknown>; readonly isDirectory?: true }
  >
> = {
  file: { make: (client, path) => client.writeFile({ path, data: 'removed' }) },
  directory: { make: (client, path) => client.mkdir({ path }), isDirectory: true },
  'symbolic link': { make: (client, path) => client.symlink({ target: 'somewhere', path }) },
};

for (const [what, { make, isDirectory = false }] of Object.entries(REMOVED)) {
  guestTest(`a ${what} that is removed on ecryptfs gives its inode below back at once`, async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('tmpfs', 'encrypted');
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    const free = async (): Promise<number> => (await client.statfs({ path: lower })).ffree;
    const path = ecryptfs.file('removed');
    const before = await free();
    await make(client, path);
    t.is(await free(), before - 1, 'while it is there');
    await (isDirectory ? client.rmdir({ path }) : client.unlink({ path }));
    t.is(await free(), before, 'nothing holds it any more');
  });
}

guestTest('an attribute on ecryptfs is made or replaced as the call says', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  const path = ecryptfs.file('f');
  await client.writeFile({ path, data: 'contents' });
  const set = (flags: string) =>
    client.errno.setxattr({ path, name: 'user.word', data: new Uint8Array(1), flags });
  const outcomes = [await set('XATTR_REPLACE'), await set('XATTR_CREATE'), await set('XATTR_CREATE')];
  t.deepEqual([...outcomes, await set('XATTR_REPLACE')], ['ENODATA', 'ok', 'EEXIST', 'ok']);
});

const FIFO = 0o010_600;

/** What there is to make in a directory, in which `first` is already. */
const MADE: Readonly<Record<string, (client: Client, directory: string) => Promise<unknown>>> = {
  'a file': (client, directory) => client.writeFile({ path: `${directory}/file`, data: 'new' }),
  'a directory': (client, directory) => client.mkdir({ path: `${directory}/directory` }),
  'a symlink': (client, directory) => client.symlink({ target: 'first', path: `${directory}/symlink` }),
  'a pipe': (client, directory) => client.mknod({ path: `${directory}/pipe`, mode: FIFO }),
  'a link': (client, directory) => client.link({ from: `${directory}/first`, to: `${directory}/link` }),
};

guestTest(
  'a directory of ecryptfs is as large as the one below, whatever is made in it',
  async (t, guest) => {
    await using client = await guest.client();
    // There a directory grows with each name.
    const lower = await guest.directory('tmpfs', 'encrypted');
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    await client.mkdir({ path: ecryptfs.file('d') });
    await client.writeFile({ path: ecryptfs.file('d/first'), data: 'contents' });
    const size = async (path: string) => (await client.stat({ path })).size;
    for (const [what, make] of Object.entries(MADE)) {
      const before = await size(`${lower}/d`);
      await make(client, ecryptfs.file('d'));
      t.true((await size(`${lower}/d`)) > before, `${what}: the one below has grown`);
      t.is(await size(ecryptfs.file('d')), await size(`${lower}/d`), what);
    }
  },
);

/** By how much room the kernel has for a target: one that fills it, and one that leaves some of that behind its end. */
const ROOMS = [32, 64, 96, 128, 192, 256, 512].map((room) => ({
  room,
  filling: 'f'.repeat(room - 1),
  shorter: 's'.repeat(Math.floor(0.8 * room)),
}));
const TIMES = 8;

guestTest('a symlink on ecryptfs leads where it was told, whatever memory had', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  const odd: string[] = [];
  for (const { room, filling, shorter } of ROOMS) {
    const names = Array.from({ length: TIMES }, (_none, nth) => `${room}-${nth}`);
    // One thread makes them, so that it gets the memory that it has used just before.
    const calls = names.flatMap((name): BatchCall[] => [
      { call: 'symlink', args: { target: filling, path: ecryptfs.file(`${name}-filling`) } },
      { call: 'symlink', args: { target: shorter, path: ecryptfs.file(name) } },
    ]);
    const made = await client.batch({ calls, oneThread: true });
    t.true(
      made.every((result) => 'value' in result),
      `targets of ${shorter.length} bytes`,
    );
    const read = await client.batch({
      calls: names.map((name) => ({ call: 'readlink', args: { path: `${lower}/${name}` } })),
    });
    for (const result of read) {
      const target = 'value' in result ? result.value : result.errno;
      if (target !== shorter) odd.push(`${shorter.length} bytes: ${String(target)}`);
    }
  }
  t.deepEqual(odd, [], 'links that lead somewhere else');
});

const [CHARACTERS, BLOCKS] = [0o020_000, 0o060_000];

guestTest('a device on ecryptfs has the numbers that it is made with', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  for (const [name, kind, major, minor] of [
    ['characters', CHARACTERS, 1, 3],
    ['blocks', BLOCKS, 7, 200],
  ] as const) {
    await client.mknod({ path: ecryptfs.file(name), mode: kind | 0o600, major, minor });
    for (const path of [ecryptfs.file(name), `${lower}/${name}`]) {
      const { mode, rdevMajor, rdevMinor } = await client.stat({ path });
      t.deepEqual([mode, rdevMajor, rdevMinor], [kind | 0o600, major, minor], path);
    }
  }
});

guestTest('pipes and devices on ecryptfs are what their nodes say, not encrypted files', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  await client.mknod({ path: ecryptfs.file('zero'), mode: CHARACTERS | 0o600, major: 1, minor: 5 });
  const zero = await client.open({ path: ecryptfs.file('zero'), flags: 'O_RDWR' });
  t.deepEqual(await client.read({ fd: zero, count: 4 }), new Uint8Array(4), 'the device of zeros');
  await client.close({ fd: zero });

  await client.mknod({ path: ecryptfs.file('pipe'), mode: FIFO | 0o600 });
  const pipe = await client.open({ path: ecryptfs.file('pipe'), flags: 'O_RDWR|O_NONBLOCK' });
  t.is(await client.errno.lseek({ fd: pipe, offset: 0, whence: 'SEEK_SET' }), 'ESPIPE', 'a pipe');
  t.is(await client.write({ fd: pipe, data: 'through' }), 7);
  t.is(text(await client.read({ fd: pipe, count: 100 })), 'through');
  t.is(await client.errno.read({ fd: pipe, count: 100 }), 'EAGAIN', 'nothing is left in it');
  await client.close({ fd: pipe });
  for (const name of ['zero', 'pipe']) {
    t.is((await client.stat({ path: `${lower}/${name}` })).size, 0, `${name}: nothing was written below`);
  }
});

guestTest('a rename on ecryptfs that is not to replace anything is not made at all', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  await client.writeFile({ path: ecryptfs.file('from'), data: 'contents' });
  const names = { from: ecryptfs.file('from'), to: ecryptfs.file('to') };
  t.is(
    await client.errno.rename({ ...names, flags: 'RENAME_NOREPLACE' }),
    'EINVAL',
    'a flag it does not know',
  );
  t.deepEqual(await client.readdir({ path: lower }), ['from']);
  t.is(await client.errno.rename(names), 'ok', 'without it');
});
