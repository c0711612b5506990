import type { Client } from '../lib/client.ts';
import { ecryptfsOnFuse } from '../lib/ecryptfs-on-fuse.ts';
import { guestTest } from '../lib/guest-test.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';

/** What ecryptfs asks a plain FUSE server that has its lower files, and what it does not ask. */

guestTest('a stat on ecryptfs that may be out of date does not ask the lower server', async (t, guest) => {
  await using client = await guest.client();
  // The server says that attributes are valid for no time at all.
  await using stack = await ecryptfsOnFuse(guest, client);
  const { ecryptfs, fuse } = stack;
  await client.writeFile({ path: ecryptfs.file('f'), data: 'contents' });
  const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_RDONLY' });
  for (const [flags, asked] of [
    ['', 1],
    ['AT_STATX_DONT_SYNC', 0],
    ['AT_STATX_FORCE_SYNC', 1],
  ] as const) {
    const after = await fuse.position();
    t.is((await client.fstat({ fd, flags })).size, 8);
    const how = flags === '' ? 'as any stat' : flags;
    t.is((await fuse.requests({ opcode: 'GETATTR', after })).length, asked, how);
  }
  await client.close({ fd });
});

/** STATX_UID of linux/stat.h. */
const OWNER = 0x8;

guestTest('a stat on ecryptfs asks the lower server for what it is asked itself', async (t, guest) => {
  await using client = await guest.client();
  const plain = { passthrough: 'off', init: WITHOUT_PASSTHROUGH } as const;
  await using fuse = await guest.mountFuse({ ...plain, entryValidS: 3600, attrValidS: 3600 });
  await using ecryptfs = await guest.mountEcryptfs({ lower: fuse.path }, client);
  const path = ecryptfs.file('f');
  await client.writeFile({ path, data: 'contents' });
  await client.stat({ path });
  // Size, blocks and times are to be asked for again after this, and the owner is not.
  await client.writeFile({ path, data: 'CONTENTS', flags: 'O_WRONLY' });
  for (const [mask, asked] of [
    [OWNER, 0],
    [undefined, 1],
  ] as const) {
    const after = await fuse.position();
    await client.stat(mask === undefined ? { path } : { path, mask });
    const what = mask === undefined ? 'for everything' : 'for the owner';
    t.is((await fuse.requests({ opcode: 'GETATTR', after })).length, asked, what);
  }
});

guestTest('a directory on ecryptfs is opened below by who opens it', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await ecryptfsOnFuse(guest, client, { allowOther: true });
  const { ecryptfs, fuse } = stack;
  await client.mkdir({ path: ecryptfs.file('d'), mode: 0o755 });
  await client.chmod({ path: ecryptfs.path, mode: 0o755 });
  await using user = await guest.client();
  await user.chdir({ path: ecryptfs.path });
  await user.setCredentials({ uid: 1500, gid: 1600 });
  const after = await fuse.position();
  t.is(await user.errno.readdir({ path: 'd' }), 'ok');
  const [opened] = await fuse.requests({ opcode: 'OPENDIR', path: '/d', after });
  t.deepEqual([opened?.uid, opened?.gid], [1500, 1600]);
});

guestTest('statfs on ecryptfs is asked of the file below, not of the root', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await ecryptfsOnFuse(guest, client);
  const { ecryptfs, fuse } = stack;
  await client.mkdir({ path: ecryptfs.file('d') });
  await client.writeFile({ path: ecryptfs.file('d/f'), data: 'contents' });
  for (const name of ['d', 'd/f']) {
    const after = await fuse.position();
    await client.statfs({ path: ecryptfs.file(name) });
    const asked = await fuse.requests({ opcode: 'STATFS', after });
    t.deepEqual(
      asked.map(({ nodeid }) => nodeid),
      [await fuse.nodeid(`/${name}`)],
      name,
    );
  }
});

guestTest(
  'a name that is to be made or replaced on ecryptfs is looked up below, however long it is valid',
  async (t, guest) => {
    await using client = await guest.client();
    const plain = { passthrough: 'off', init: WITHOUT_PASSTHROUGH } as const;
    await using fuse = await guest.mountFuse({ ...plain, entryValidS: 3600, attrValidS: 3600 });
    await using ecryptfs = await guest.mountEcryptfs({ lower: fuse.path }, client);
    const [f, g] = [ecryptfs.file('f'), ecryptfs.file('g')];
    for (const path of [f, g]) await client.mkdir({ path });
    for (const path of [f, g]) await client.stat({ path });
    const lookups = async (call: () => Promise<unknown>, is: unknown): Promise<number> => {
      const after = await fuse.position();
      t.is(await call(), is);
      return (await fuse.requests({ opcode: 'LOOKUP', path: '/f', after })).length;
    };
    t.is(await lookups(() => client.errno.lstat({ path: f }), 'ok'), 0, 'one that is only looked at');
    t.true((await lookups(() => client.errno.mkdir({ path: f }), 'EEXIST')) > 0, 'one that is to be made');
    t.true((await lookups(() => client.errno.rename({ from: g, to: f }), 'ok')) > 0, 'one to be replaced');
  },
);

guestTest('access and chdir on ecryptfs are what the lower server says of them', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await ecryptfsOnFuse(guest, client);
  const { ecryptfs, fuse } = stack;
  await client.mkdir({ path: ecryptfs.file('d') });
  const path = ecryptfs.file('d');
  for (const [what, call] of Object.entries({
    access: () => client.errno.access({ path, mode: 'R_OK' }),
    chdir: () => client.errno.chdir({ path }),
  })) {
    const after = await fuse.position();
    const allow = await fuse.fail('ACCESS', 'EACCES');
    t.is(await call(), 'EACCES', what);
    t.is((await fuse.requests({ opcode: 'ACCESS', path: '/d', after })).length, 1, `${what}: asked once`);
    t.is(await client.errno.readdir({ path }), 'ok', `${what}: a listing does not ask`);
    await allow();
    t.is(await call(), 'ok', `${what}, allowed`);
    await client.chdir({ path: '/' });
  }
});

guestTest('a close on ecryptfs tells the lower server whose it is', async (t, guest) => {
  await using client = await guest.client();
  await using other = await guest.client();
  await using stack = await ecryptfsOnFuse(guest, client);
  const { ecryptfs, fuse } = stack;
  const path = ecryptfs.file('f');
  await client.writeFile({ path, data: 'contents' });
  const owner = async (who: Client) => {
    const after = await fuse.position();
    await who.close({ fd: await who.open({ path, flags: 'O_RDWR' }) });
    const [flush] = await fuse.requests({ opcode: 'FLUSH', after });
    return String(flush?.args['lock_owner']);
  };
  const first = await owner(client);
  t.not(await owner(other), first, 'of two processes');
  t.is(await owner(client), first, 'of one and the same');
});
