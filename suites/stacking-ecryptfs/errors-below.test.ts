import { bytes, firstDifference, pattern, text } from '../lib/bytes.ts';
import { ecryptfsOnFuse } from '../lib/ecryptfs-on-fuse.ts';
import { guestTest } from '../lib/guest-test.ts';

/** What ecryptfs makes of errors of the server that has its lower files. */

const PAGE = 4096;
/** Pages of a file, and one of them that no readahead from its beginning has read. */
const [PAGES, FAR] = [32, 30];

guestTest(
  'a lower file that the server does not open for a user is opened by a thread of the kernel',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await ecryptfsOnFuse(guest, client, { allowOther: true });
    const { ecryptfs, fuse } = stack;
    await client.writeFile({ path: ecryptfs.file('f'), data: 'contents', mode: 0o644 });
    await using user = await guest.client();
    await user.chdir({ path: ecryptfs.path });
    await user.setCredentials({ uid: 1500, gid: 1500 });
    const after = await fuse.position();
    // ecryptfs opens every lower file for writing, which the mode of this one allows its owner only.
    await fuse.fail('OPEN', 'EACCES', 1);
    t.is(text(await user.readFile({ path: 'f' })), 'contents');
    const asked = await fuse.requests({ opcode: 'OPEN', after });
    t.deepEqual(
      asked.map(({ uid }) => uid),
      [1500, 0],
      'for the user, and for the thread',
    );
  },
);

guestTest(
  'a file on ecryptfs whose lower file could not be opened is opened when it can be',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await ecryptfsOnFuse(guest, client);
    const { ecryptfs, fuse } = stack;
    const path = ecryptfs.file('f');
    await client.writeFile({ path, data: 'contents' });
    const allow = await fuse.fail('OPEN', 'EACCES');
    for (const flags of ['O_RDWR', 'O_RDONLY']) {
      t.is(await client.errno.open({ path, flags }), 'EACCES', flags);
    }
    await allow();
    t.is(text(await client.readFile({ path })), 'contents');
  },
);

guestTest('what the lower server answers to a flush is told by close on ecryptfs', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await ecryptfsOnFuse(guest, client);
  const { ecryptfs, fuse } = stack;
  await client.writeFile({ path: ecryptfs.file('f'), data: 'contents' });
  const open = { path: ecryptfs.file('f'), flags: 'O_RDWR' };
  const refused = await client.open(open);
  const allow = await fuse.fail('FLUSH', 'ENOSPC');
  t.is(await client.errno.close({ fd: refused }), 'ENOSPC');
  await allow();
  const fd = await client.open(open);
  t.is(await client.errno.close({ fd }), 'ok', 'without an error below');
});

guestTest(
  'a write to part of a page that cannot be read below fails, and is done when it can be',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await ecryptfsOnFuse(guest, client);
    const { ecryptfs, fuse } = stack;
    const data = pattern(PAGES * PAGE);
    await client.writeFile({ path: ecryptfs.file('f'), data });
    t.is(await ecryptfs.unmount(), 'ok');
    await using again = await guest.mountEcryptfs({ lower: fuse.path }, client);
    const fd = await client.open({ path: again.file('f'), flags: 'O_RDWR' });
    const write = { fd, data: 'part', offset: FAR * PAGE + 10 };
    const readable = await fuse.fail('READ', 'EIO');
    t.is(await client.errno.pwrite(write), 'EIO', 'while it cannot be read');
    await readable();
    t.is(await client.pwrite(write), 4, 'when it can be');
    data.set(bytes('part'), FAR * PAGE + 10);
    const seen = await client.pread({ fd, count: 2 * PAGES * PAGE, offset: 0 });
    t.is(firstDifference(seen, data), undefined, 'with what was around it');
    await client.close({ fd });
  },
);

guestTest(
  'a file that ecryptfs_passthrough shows as it is cannot be read while it cannot be below',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await ecryptfsOnFuse(guest, client, { more: ['ecryptfs_passthrough'] });
    const { ecryptfs, fuse } = stack;
    const data = pattern(PAGES * PAGE);
    await client.writeFile({ path: fuse.backing('plain'), data });
    const fd = await client.open({ path: ecryptfs.file('plain'), flags: 'O_RDONLY' });
    const read = { fd, count: PAGE, offset: FAR * PAGE };
    const readable = await fuse.fail('READ', 'EIO');
    t.is(await client.errno.pread(read), 'EIO', 'while it cannot be read');
    await readable();
    const page = data.subarray(FAR * PAGE, (FAR + 1) * PAGE);
    t.is(firstDifference(await client.pread(read), page), undefined, 'when it can be');
    await client.close({ fd });
  },
);

guestTest(
  'a name whose lower file cannot be opened is not found, and ecryptfs keeps nothing of it',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await ecryptfsOnFuse(guest, client);
    const { ecryptfs, fuse } = stack;
    await client.writeFile({ path: ecryptfs.file('f'), data: 'contents' });
    t.is(await ecryptfs.unmount(), 'ok');
    await using again = await guest.mountEcryptfs({ lower: fuse.path }, client);
    const path = again.file('f');
    const allow = await fuse.fail('OPEN', 'EACCES');
    t.is(await client.errno.stat({ path }), 'EACCES', 'while it cannot be opened');
    await allow();
    t.is(text(await client.readFile({ path })), 'contents', 'when it can be');
    const after = (await guest.kernelLog()).at(-1)?.seq;
    t.is(await again.unmount(), 'ok');
    const said = (await guest.kernelLog(after)).map((record) => record.text);
    t.deepEqual(
      said.filter((line) => line.includes('Busy inodes')),
      [],
      'nothing is left of a mount that has ended',
    );
  },
);

guestTest(
  'a name whose lower file cannot be opened does no harm to another name of the file',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await ecryptfsOnFuse(guest, client);
    const { ecryptfs, fuse } = stack;
    await client.writeFile({ path: ecryptfs.file('f'), data: 'contents' });
    await client.link({ from: ecryptfs.file('f'), to: ecryptfs.file('g') });
    t.is(await ecryptfs.unmount(), 'ok');
    await using again = await guest.mountEcryptfs({ lower: fuse.path }, client);
    const after = await fuse.position();
    t.is((await client.stat({ path: again.file('f') })).nlink, 2, 'one name is known');
    const allow = await fuse.fail('OPEN', 'EACCES');
    t.is(await client.errno.stat({ path: again.file('g') }), 'EACCES', 'the other one is not');
    await allow();
    const opened = await fuse.requests({ opcode: 'OPEN', after });
    t.is(new Set(opened.map(({ nodeid }) => nodeid)).size, 1, 'both are of one file');
    t.is(await client.errno.stat({ path: again.file('f') }), 'ok', 'the one that was known');
    for (const name of ['f', 'g']) {
      t.is(await client.errno.readFile({ path: again.file(name) }), 'ok', name);
      t.is(text(await client.readFile({ path: again.file(name) })), 'contents', name);
    }
  },
);

guestTest(
  'an empty lower file whose header could not be written gets one when it is opened again (E6)',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await ecryptfsOnFuse(guest, client);
    const { ecryptfs, fuse } = stack;
    await client.writeFile({ path: fuse.backing('f'), data: '' });
    const open = { path: ecryptfs.file('f'), flags: 'O_RDWR' };
    const writable = await fuse.fail('WRITE', 'EDQUOT');
    t.is(await client.errno.open(open), 'EIO', 'while it cannot be written');
    await writable();
    t.is((await client.stat({ path: fuse.backing('f') })).size, 0, 'no header is there');
    const fd = await client.open(open);
    t.is(await client.pwrite({ fd, data: 'contents', offset: 0 }), 8, 'when it can be');
    t.is(await client.errno.close({ fd }), 'ok');
    t.is(await ecryptfs.unmount(), 'ok');
    await using again = await guest.mountEcryptfs({ lower: fuse.path }, client);
    t.is(await client.errno.readFile({ path: again.file('f') }), 'ok', 'mounted anew');
    t.is(text(await client.readFile({ path: again.file('f') })), 'contents');
  },
);
