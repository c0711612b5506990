import { guestTest } from '../lib/guest-test.ts';

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
    const fd = await client.open({ path: ecryptfs.path, flags: 'O_RDONLY|O_DIRECTORY' });
    const parts: { position: number; names: string[] }[] = [];
    for (let done = false; !done;) {
      const position = await client.lseek({ fd, offset: 0, whence: 'SEEK_CUR' });
      // Room for two or three names.
      const part = await client.readdirFd({ fd, bytes: 80 });
      done = part.length === 0;
      if (!done) parts.push({ position, names: part });
    }
    t.true(parts.length > 4, 'several parts');
    t.deepEqual(parts.flatMap((part) => part.names).sort(), ['.', '..', ...names].sort(), 'each name once');
    for (const { position, names: part } of parts.toReversed()) {
      t.is(await client.lseek({ fd, offset: position, whence: 'SEEK_SET' }), position);
      t.deepEqual(await client.readdirFd({ fd, bytes: 80 }), part, `from ${position}`);
    }
    await client.close({ fd });
  },
);

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
