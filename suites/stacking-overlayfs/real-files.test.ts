import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill, layersOf, over } from '../lib/layers.ts';
import { lowerOnFuse, upperOnFuse } from '../lib/overlay-on-fuse.ts';

/** An open file of an overlay has one of a layer below it, which is asked each time what may be done. */

const USER_NAMESPACE = ['unshare', '--user', '--map-root-user', '--mount'];
const LONG_AGO_NS = 1_500_000_000_000_000_000;
const [OWNER, STRANGER] = [1234, 4000];

type Calls = Readonly<Record<string, (client: Client, fd: number, other: number) => Promise<string>>>;

/** What needs the file below, by the call: of one that is open for reading, and `other` for writing as well. */
const READS: Calls = {
  pread: (client, fd) => client.errno.pread({ fd, count: 4, offset: 0 }),
  lseek: (client, fd) => client.errno.lseek({ fd, offset: 0, whence: 'SEEK_END' }),
  fsync: (client, fd) => client.errno.fsync({ fd }),
  fdatasync: (client, fd) => client.errno.fdatasync({ fd }),
  posix_fadvise: (client, fd) =>
    client.errno.posix_fadvise({ fd, offset: 0, length: 4096, advice: 'POSIX_FADV_NORMAL' }),
  'copy_file_range from it': (client, fd, other) =>
    client.errno.copy_file_range({ fdIn: fd, offIn: 0, fdOut: other, offOut: 0, length: 4 }),
  'splice from it': async (client, fd) => {
    const [fdIn, fdOut] = await client.pipe({});
    const errno = await client.errno.splice({ fdIn: fd, offIn: 0, fdOut, length: 4 });
    for (const end of [fdIn, fdOut]) await client.close({ fd: end });
    return errno;
  },
};

/** The same of one that is open for writing. */
const WRITES: Calls = {
  pwrite: (client, fd) => client.errno.pwrite({ fd, data: 'x', offset: 0 }),
  fallocate: (client, fd) => client.errno.fallocate({ fd, offset: 0, length: 4096 }),
  'copy_file_range to it': (client, fd, other) =>
    client.errno.copy_file_range({ fdIn: other, offIn: 0, fdOut: fd, offOut: 0, length: 4 }),
  'splice to it': async (client, fd) => {
    const [fdIn, fdOut] = await client.pipe({});
    await client.write({ fd: fdOut, data: 'data' });
    const errno = await client.errno.splice({ fdIn, fdOut: fd, offOut: 0, length: 4 });
    for (const end of [fdIn, fdOut]) await client.close({ fd: end });
    return errno;
  },
};

guestTest(
  'O_APPEND is not taken from a file that became append-only below the overlay, and nothing is done meanwhile',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const upper = layers[1] ?? '';
    await fill(client, upper, ['f', 'other']);
    await using overlay = await over(guest, client, layers);
    const fd = await client.open({ path: overlay.file('f'), flags: 'O_RDWR|O_APPEND' });
    const other = await client.open({ path: overlay.file('other'), flags: 'O_RDWR' });
    await guest.run(['chattr', '+a', `${upper}/f`]);
    try {
      for (const [what, call] of Object.entries(READS)) t.is(await call(client, fd, other), 'ok', what);
      await client.fcntl({ fd, cmd: 'F_SETFL', arg: 'O_RDWR' });
      for (const [what, call] of Object.entries({ ...READS, ...WRITES })) {
        t.is(await call(client, fd, other), 'EPERM', `${what}, without O_APPEND`);
      }
      const twin = await client.dup({ fd });
      t.is(await client.errno.close({ fd: twin }), 'EPERM', 'close, which closes all the same');
      await client.fcntl({ fd, cmd: 'F_SETFL', arg: 'O_RDWR|O_APPEND' });
      t.is(await client.errno.pread({ fd, count: 4, offset: 0 }), 'ok', 'as it was opened');
    } finally {
      await guest.run(['chattr', '-a', `${upper}/f`]);
    }
    for (const each of [fd, other]) await client.close({ fd: each });
    t.is(text(await client.readFile({ path: overlay.file('f') })), 'f at the bottom', 'as it was');
  },
);

guestTest(
  'a file that was copied up while it is open is opened anew below, with the rights of who mounted the overlay',
  async (t, guest) => {
    await using root = await guest.client();
    await using client = await guest.client({ launcher: USER_NAMESPACE });
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(root, lower, ['f', 'other']);
    await using overlay = await over(guest, client, layers);
    const fd = await client.open({ path: overlay.file('f'), flags: 'O_RDONLY' });
    const other = await client.open({ path: overlay.file('other'), flags: 'O_RDWR' });
    await client.chmod({ path: overlay.file('f'), mode: 0o640 });
    // Of somebody whom this namespace does not have.
    await root.chown({ path: `${upper}/f`, uid: OWNER, gid: OWNER });
    for (const [what, call] of Object.entries(READS)) {
      t.is(await call(client, fd, other), 'EACCES', `${what}, of a file that may not be read`);
    }
    const twin = await client.dup({ fd });
    t.is(await client.errno.close({ fd: twin }), 'EACCES', 'close, which closes all the same');
    await root.chown({ path: `${upper}/f`, uid: 0, gid: 0 });
    for (const [what, call] of Object.entries(READS)) t.is(await call(client, fd, other), 'ok', what);
    for (const each of [fd, other]) await client.close({ fd: each });
  },
);

guestTest(
  'O_NOATIME is for files of who mounted the overlay, or who may do all to files',
  async (t, guest) => {
    for (const [who, launcher, changes] of [
      ['root', [], false],
      ['root without the capability', ['setpriv', '--bounding-set', '-fowner'], true],
    ] as const) {
      await using root = await guest.client();
      await using mounter = await guest.client({ launcher: [...launcher] });
      const layers = await layersOf(guest, 2);
      const path = `${layers[1]}/f`;
      await root.writeFile({ path, data: 'contents', mode: 0o644 });
      await root.chown({ path, uid: OWNER, gid: OWNER });
      await using overlay = await over(guest, mounter, layers);
      const fd = await root.open({ path: overlay.file('f'), flags: 'O_RDONLY|O_NOATIME' });
      await root.utimens({ path, atimeNs: LONG_AGO_NS, mtimeNs: null });
      t.is(text(await root.pread({ fd, count: 8, offset: 0 })), 'contents');
      t.is((await root.stat({ path })).atimeNs !== LONG_AGO_NS, changes, `${who}: the access time changes`);
      await root.close({ fd });
    }
  },
);

guestTest(
  'what the server of a lower layer refuses is the errno of an open on the overlay',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await lowerOnFuse(guest, client);
    const { overlay, fuse } = stack;
    for (const [opcode, flags] of [
      ['OPEN', 'O_RDONLY'],
      ['OPEN', 'O_RDWR'],
      ['READ', 'O_RDWR'],
    ] as const) {
      const permit = await fuse.fail(opcode, 'EDQUOT');
      t.is(await client.errno.open({ path: overlay.file('f'), flags }), 'EDQUOT', `${opcode}: ${flags}`);
      await permit();
    }
    t.is(await client.errno.open({ path: overlay.file('f'), flags: 'O_RDWR' }), 'ok', 'nothing is refused');
  },
);

guestTest(
  'who may not take the setuid bit away may not allocate or copy to a file either',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await upperOnFuse(guest, client);
    const { overlay, fuse } = stack;
    await client.chmod({ path: overlay.file('old'), mode: 0o4777 });
    await client.writeFile({ path: overlay.file('source'), data: 'contents', mode: 0o644 });
    await using stranger = await guest.client();
    await stranger.chdir({ path: overlay.path });
    await stranger.setCredentials({ uid: STRANGER, gid: STRANGER });
    const fd = await stranger.open({ path: 'old', flags: 'O_RDWR' });
    const from = await stranger.open({ path: 'source', flags: 'O_RDONLY' });
    const permit = await fuse.fail('SETATTR', 'EDQUOT');
    const attempts = {
      fallocate: () => stranger.errno.fallocate({ fd, offset: 0, length: 100 }),
      copy_file_range: () =>
        stranger.errno.copy_file_range({ fdIn: from, offIn: 0, fdOut: fd, offOut: 0, length: 8 }),
    };
    for (const [what, attempt] of Object.entries(attempts)) t.is(await attempt(), 'EDQUOT', what);
    t.is(text(await client.readFile({ path: fuse.backing('upper/old') })), 'from above', 'as it was');
    await permit();
    for (const [what, attempt] of Object.entries(attempts)) t.is(await attempt(), 'ok', `${what}, later`);
    for (const each of [fd, from]) await stranger.close({ fd: each });
  },
);

guestTest('copy_file_range copies from one overlay to another', async (t, guest) => {
  await using client = await guest.client();
  const [one, two] = [await layersOf(guest, 2), await layersOf(guest, 2)];
  await fill(client, one[0] ?? '', ['f']);
  await using from = await over(guest, client, one);
  await using to = await over(guest, client, two);
  const fdIn = await client.open({ path: from.file('f'), flags: 'O_RDONLY' });
  const fdOut = await client.open({ path: to.file('f'), flags: 'O_RDWR|O_CREAT' });
  t.is(await client.copy_file_range({ fdIn, offIn: 2, fdOut, offOut: 1, length: 6 }), 6);
  t.is(text(await client.readFile({ path: to.file('f') })), '\0at the');
  for (const fd of [fdIn, fdOut]) await client.close({ fd });
});
