import type { Client } from '../lib/client.ts';
import { ecryptfsOnFuse } from '../lib/ecryptfs-on-fuse.ts';
import { guestTest } from '../lib/guest-test.ts';

/** Names that somebody moves or takes away below ecryptfs, which knows them by the lower ones that it has looked up. */

guestTest(
  'what has been moved to another directory below ecryptfs is not changed by its old name',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    const at = (name: string) => ecryptfs.file(name);
    for (const name of ['a', 'b', 'a/d']) await client.mkdir({ path: at(name) });
    for (const name of ['a/f', 'g']) await client.writeFile({ path: at(name), data: name });
    const move = async (from: string, to: string) => {
      for (const name of ['f', 'd']) {
        await client.rename({ from: `${lower}/${from}/${name}`, to: `${lower}/${to}/${name}` });
      }
    };
    await move('a', 'b');
    t.is(await client.errno.unlink({ path: at('a/f') }), 'EINVAL', 'removing a file');
    t.is(await client.errno.rmdir({ path: at('a/d') }), 'EINVAL', 'removing a directory');
    t.is(await client.errno.rename({ from: at('a/f'), to: at('a/renamed') }), 'EINVAL', 'a rename of it');
    t.is(await client.errno.rename({ from: at('g'), to: at('a/f') }), 'EINVAL', 'a rename to it');
    t.deepEqual(await client.readdir({ path: `${lower}/b` }), ['d', 'f'], 'it is where it was moved');
    t.deepEqual(await client.readdir({ path: lower }), ['a', 'b', 'g']);
    await move('b', 'a');
    t.is(await client.errno.rename({ from: at('g'), to: at('a/f') }), 'ok', 'where it was before');
    t.is(await client.errno.rename({ from: at('a/f'), to: at('a/renamed') }), 'ok');
    t.is(await client.errno.unlink({ path: at('a/renamed') }), 'ok');
    t.is(await client.errno.rmdir({ path: at('a/d') }), 'ok');
  },
);

guestTest('a directory that has been moved into another below ecryptfs stays in it', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  const at = (name: string) => ecryptfs.file(name);
  for (const name of ['outer', 'inner', 'inner/sub']) {
    await client.mkdir({ path: at(name) });
    await client.stat({ path: at(name) });
  }
  await client.rename({ from: `${lower}/inner`, to: `${lower}/outer/inner` });
  // On ecryptfs they are beside each other still.
  t.is(
    await client.errno.rename({ from: at('outer'), to: at('inner/made') }),
    'EINVAL',
    'the outer into the inner',
  );
  t.is(
    await client.errno.rename({ from: at('inner/sub'), to: at('outer') }),
    'ENOTEMPTY',
    'what is in it over the outer',
  );
  t.deepEqual(await client.readdir({ path: `${lower}/outer/inner` }), ['sub']);
  await client.rename({ from: `${lower}/outer/inner`, to: `${lower}/inner` });
  t.is(
    await client.errno.rename({ from: at('inner/sub'), to: at('outer') }),
    'ok',
    'when it is beside it again',
  );
});

guestTest(
  'a directory that is found where it has been moved below ecryptfs is not found where it was any more',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    const at = (name: string) => ecryptfs.file(name);
    for (const name of ['a', 'b', 'a/d']) await client.mkdir({ path: at(name) });
    const { ino } = await client.stat({ path: at('a/d') });
    await client.rename({ from: `${lower}/a/d`, to: `${lower}/b/moved` });
    t.is((await client.stat({ path: at('b/moved') })).ino, ino, 'found where it is');
    t.is(await client.errno.stat({ path: at('a/d') }), 'ENOENT', 'a directory has one name');
    t.is(await client.errno.mkdir({ path: at('b/moved/made') }), 'ok');
    t.deepEqual(await client.readdir({ path: `${lower}/b/moved` }), ['made'], 'below');
    t.is(await client.errno.rmdir({ path: at('b/moved/made') }), 'ok');
    t.is(await client.errno.rmdir({ path: at('b/moved') }), 'ok');
  },
);

guestTest(
  'one of two names of a file that is removed below ecryptfs is not removed or renamed on it',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    const at = (name: string) => ecryptfs.file(name);
    for (const name of ['f', 'other']) await client.writeFile({ path: at(name), data: name });
    await client.link({ from: at('f'), to: at('g') });
    await client.unlink({ path: `${lower}/f` });
    t.is(await client.errno.unlink({ path: at('f') }), 'EINVAL', 'removing it');
    t.is(await client.errno.rename({ from: at('f'), to: at('renamed') }), 'EINVAL', 'a rename of it');
    t.is(await client.errno.rename({ from: at('other'), to: at('f') }), 'EINVAL', 'a rename to it');
    t.deepEqual(await client.readdir({ path: lower }), ['g', 'other']);
    t.is(await client.errno.rename({ from: at('other'), to: at('g') }), 'ok', 'to the name that is left');
    t.deepEqual(await client.readdir({ path: lower }), ['g']);
  },
);

guestTest('names that the lower server takes back are not removed on ecryptfs', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await ecryptfsOnFuse(guest, client);
  const { ecryptfs, fuse } = stack;
  for (const name of ['d', 'kept']) await client.mkdir({ path: ecryptfs.file(name) });
  await client.writeFile({ path: ecryptfs.file('f'), data: 'contents' });
  for (const name of ['d', 'f']) t.is(await fuse.notify({ parent: '/', name }), 'ok');
  t.is(await client.errno.rmdir({ path: ecryptfs.file('d') }), 'EINVAL');
  t.is(await client.errno.unlink({ path: ecryptfs.file('f') }), 'EINVAL');
  t.deepEqual(await fuse.opcodes({ opcode: ['RMDIR', 'UNLINK'] }), [], 'the server is not asked');
  t.is(await client.errno.rmdir({ path: ecryptfs.file('kept') }), 'ok');
});

/** What ecryptfs makes of a name that was not there when it looked: by whether it looks again after it could not. */
const MAKE: Readonly<Record<string, { readonly call: Make; readonly again: string }>> = {
  'a file': { call: (client, path) => client.errno.creat({ path }), again: 'EINVAL' },
  'a directory': { call: (client, path) => client.errno.mkdir({ path }), again: 'ok' },
  'a pipe': { call: (client, path) => client.errno.mknod({ path, mode: 0o010_600 }), again: 'ok' },
  'a symlink': { call: (client, path) => client.errno.symlink({ target: 'g', path }), again: 'ok' },
  'a link': {
    call: (client, path, other) => client.errno.link({ from: other, to: path }),
    again: 'EINVAL',
  },
};

type Make = (client: Client, path: string, other: string) => Promise<string>;

guestTest(
  'what came to be below under a name that was not there on ecryptfs, and was moved away, is left alone',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    const at = (name: string) => ecryptfs.file(name);
    for (const name of ['a', 'b']) await client.mkdir({ path: at(name) });
    await client.writeFile({ path: at('g'), data: 'g' });
    for (const [what, { call, again }] of Object.entries(MAKE)) {
      t.is(await client.errno.stat({ path: at('a/x') }), 'ENOENT', `${what}: before`);
      await client.mkdir({ path: `${lower}/a/x` });
      await client.rename({ from: `${lower}/a/x`, to: `${lower}/b/x` });
      t.is(await call(client, at('a/x'), at('g')), 'EINVAL', what);
      t.deepEqual(await client.readdir({ path: `${lower}/a` }), [], `${what}: nothing is made`);
      t.deepEqual(await client.readdir({ path: `${lower}/b/x` }), [], `${what}: what was moved`);
      t.is(await call(client, at('a/x'), at('g')), again, `${what}: once more`);
      await client.rmdir({ path: `${lower}/b/x` });
      for (const name of ['a', 'b']) {
        // With their names on ecryptfs, which are looked up anew.
        await guest.run(['rm', '-rf', at(name)]);
        await client.mkdir({ path: at(name) });
      }
    }
    t.is(await client.errno.creat({ path: at('a/x') }), 'ok', 'where nothing was moved');
  },
);
