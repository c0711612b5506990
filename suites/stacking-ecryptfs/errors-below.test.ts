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
