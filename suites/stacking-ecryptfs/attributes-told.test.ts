import { bytes, text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';

/** What ecryptfs tells of a file and of its changes, and what the lower filesystem and its watchers are told. */

const [LONG_AGO_NS, LONGER_AGO_NS] = [1_500_000_000_000_000_000, 1_400_000_000_000_000_000];
const FIFO = 0o010_600;

guestTest(
  'everything on ecryptfs is on the device of the mount, not on that of the lower filesystem',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    await client.writeFile({ path: ecryptfs.file('file'), data: 'contents' });
    await client.mkdir({ path: ecryptfs.file('directory') });
    await client.symlink({ target: 'file', path: ecryptfs.file('symlink') });
    await client.mknod({ path: ecryptfs.file('pipe'), mode: FIFO });
    const device = async (path: string) => {
      const { devMajor, devMinor } = await client.lstat({ path });
      return `${devMajor}:${devMinor}`;
    };
    const own = await device(ecryptfs.path);
    t.not(own, await device(lower));
    for (const name of ['file', 'directory', 'symlink', 'pipe']) {
      t.is(await device(ecryptfs.file(name)), own, name);
    }
  },
);

guestTest('times that are set on ecryptfs are set below, each to its own', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  await client.writeFile({ path: ecryptfs.file('file'), data: 'contents' });
  await client.mkdir({ path: ecryptfs.file('directory') });
  for (const name of ['file', 'directory']) {
    const times = async (at: string) => {
      const { atimeNs, mtimeNs } = await client.stat({ path: `${at}/${name}` });
      return { atimeNs, mtimeNs };
    };
    for (const set of [
      { atimeNs: LONG_AGO_NS, mtimeNs: LONGER_AGO_NS },
      { atimeNs: LONGER_AGO_NS, mtimeNs: LONG_AGO_NS },
    ]) {
      await client.utimens({ path: ecryptfs.file(name), ...set });
      t.deepEqual(await times(lower), set, `${name}, below`);
      t.deepEqual(await times(ecryptfs.path), set, `${name}, on ecryptfs`);
    }
    await client.utimens({ path: ecryptfs.file(name), atimeNs: null, mtimeNs: LONGER_AGO_NS });
    t.deepEqual(await times(lower), { atimeNs: LONGER_AGO_NS, mtimeNs: LONGER_AGO_NS }, `${name}, one alone`);
  }
});

guestTest('times that are set on ecryptfs keep their nanoseconds', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  const set = { atimeNs: LONG_AGO_NS + 123_456_512, mtimeNs: LONGER_AGO_NS + 987_654_400 };
  for (const at of [lower, ecryptfs.path]) {
    const path = `${at}/${at === lower ? 'native' : 'f'}`;
    await client.writeFile({ path, data: 'contents' });
    await client.utimens({ path, ...set });
    const { atimeNs, mtimeNs } = await client.stat({ path });
    t.deepEqual({ atimeNs, mtimeNs }, set, at === lower ? 'on ext4' : 'on ecryptfs');
  }
});

guestTest(
  'a truncation to the size that a file on ecryptfs has changes when it was modified',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    for (const length of [0, 100]) {
      const [path, below] = [ecryptfs.file(String(length)), `${lower}/${length}`];
      await client.writeFile({ path, data: new Uint8Array(length) });
      const fd = await client.open({ path, flags: 'O_RDWR' });
      const modified = async (what: string, change: () => Promise<unknown>) => {
        await client.utimens({ path: below, atimeNs: LONG_AGO_NS, mtimeNs: LONG_AGO_NS });
        await change();
        const { mtimeNs, size } = await client.stat({ path });
        t.is(size, length, what);
        t.not(mtimeNs, LONG_AGO_NS, `${what} of a file of ${length} bytes`);
        t.is(mtimeNs, (await client.stat({ path: below })).mtimeNs, `${what}: below`);
      };
      await modified('ftruncate', () => client.ftruncate({ fd, length }));
      if (length === 0) {
        await modified('O_TRUNC', async () =>
          client.close({ fd: await client.open({ path, flags: 'O_WRONLY|O_TRUNC' }) }),
        );
      }
      await client.close({ fd });
    }
  },
);

guestTest('an attribute that is set on ecryptfs is told to who watches the lower file', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  const path = ecryptfs.file('f');
  await client.writeFile({ path, data: 'contents' });
  const fd = await client.inotify_init({});
  await client.inotify_add_watch({ fd, path: `${lower}/f`, mask: 'IN_ATTRIB' });
  for (const [what, change] of Object.entries({
    'a mode': () => client.chmod({ path, mode: 0o640 }),
    'an attribute': () => client.setxattr({ path, name: 'user.word', data: 'value' }),
  })) {
    t.is(await client.errno.inotify_read({ fd }), 'EAGAIN', `${what}: nothing to tell before`);
    await change();
    const events = await client.inotify_read({ fd });
    t.deepEqual([...new Set(events.map(({ names }) => names))], ['attrib'], what);
  }
  await client.close({ fd });
});

guestTest('an attribute without a value on ecryptfs is one below', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  const path = ecryptfs.file('f');
  await client.writeFile({ path, data: 'contents' });
  const name = 'user.word';
  // Made without one, and then what has one loses it.
  for (const data of ['', 'value', '']) {
    t.is(await client.errno.setxattr({ path, name, data: bytes(data) }), 'ok', `of ${data.length} bytes`);
    for (const at of [`${lower}/f`, path]) {
      t.is(await client.errno.getxattr({ path: at, name }), 'ok', at);
      t.is(text(await client.getxattr({ path: at, name })), data, at);
    }
  }
});

guestTest('attributes on ecryptfs need as much room as below, names and values', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  await client.writeFile({ path: ecryptfs.file('file'), data: 'contents' });
  await client.mkdir({ path: ecryptfs.file('directory') });
  await client.mknod({ path: ecryptfs.file('pipe'), mode: FIFO });
  const value = 'of forty bytes '.repeat(3).slice(0, 40);
  for (const what of ['file', 'directory', 'pipe']) {
    const path = ecryptfs.file(what);
    const names = ['trusted.another', 'trusted.word'];
    for (const name of names) await client.setxattr({ path, name, data: value });
    const attribute = { path, name: 'trusted.word' };
    t.is(await client.getxattrSize(attribute), 40, `${what}: room for a value`);
    t.is(await client.errno.getxattr({ ...attribute, size: 39 }), 'ERANGE', `${what}: too little room`);
    t.is(text(await client.getxattr({ ...attribute, size: 40 })), value, `${what}: just enough`);
    const listed = names.join().length + 1;
    t.is(await client.listxattrSize({ path }), listed, `${what}: room for names`);
    t.deepEqual((await client.listxattr({ path })).sort(), names, `${what}: names`);
    t.deepEqual((await client.listxattr({ path: `${lower}/${what}` })).sort(), names, `${what}: below`);
  }
});

guestTest('a symlink on ecryptfs has its own attributes, and tells their names', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  await client.symlink({ target: 'nowhere', path: ecryptfs.file('l') });
  // By a descriptor, so that nobody follows it.
  const flags = 'O_PATH|O_NOFOLLOW';
  const [fd, below] = [
    await client.open({ path: ecryptfs.file('l'), flags }),
    await client.open({ path: `${lower}/l`, flags }),
  ];
  const of = (which: number) => `/proc/${client.pid}/fd/${which}`;
  await client.setxattr({ path: of(fd), name: 'trusted.word', data: 'value' });
  t.deepEqual(await client.listxattr({ path: of(below) }), ['trusted.word'], 'names below');
  t.deepEqual(await client.listxattr({ path: of(fd) }), ['trusted.word'], 'names on ecryptfs');
  t.is(text(await client.getxattr({ path: of(fd), name: 'trusted.word' })), 'value');
  for (const each of [fd, below]) await client.close({ fd: each });
});
