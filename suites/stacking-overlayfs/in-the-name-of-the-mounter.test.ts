import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { lowerOnFuse, upperOnFuse } from '../lib/overlay-on-fuse.ts';

/** In whose name the server of a layer is asked when somebody uses an open file of the overlay (overlayfs.rst, permission model). */

const STRANGER = 4000;
/** Root of another group, so that it shows who asks. */
const GROUP = 1234;
const AS_GROUP = ['setpriv', `--regid=${GROUP}`, '--clear-groups'];

async function inside(guest: TestGuest, path: string): Promise<Client> {
  const stranger = await guest.client();
  await stranger.chdir({ path });
  await stranger.setCredentials({ uid: STRANGER, gid: STRANGER });
  return stranger;
}

/** What is done to an open file, and what the server of its layer is asked for that. */
const CALLS: Readonly<
  Record<string, { opcodes: string[]; call: (who: Client, fd: number, other: number) => Promise<unknown> }>
> = {
  pwrite: { opcodes: ['WRITE'], call: (who, fd) => who.pwrite({ fd, data: 'data', offset: 0 }) },
  pread: { opcodes: ['READ'], call: (who, fd) => who.pread({ fd, count: 4, offset: 0 }) },
  lseek: { opcodes: ['LSEEK'], call: (who, fd) => who.lseek({ fd, offset: 0, whence: 'SEEK_DATA' }) },
  fsync: { opcodes: ['FSYNC'], call: (who, fd) => who.fsync({ fd }) },
  fallocate: { opcodes: ['FALLOCATE'], call: (who, fd) => who.fallocate({ fd, offset: 0, length: 8192 }) },
  copy_file_range: {
    opcodes: ['COPY_FILE_RANGE', 'COPY_FILE_RANGE_64'],
    call: (who, fd, other) => who.copy_file_range({ fdIn: fd, offIn: 0, fdOut: other, offOut: 0, length: 4 }),
  },
  'splice to it': {
    opcodes: ['WRITE'],
    call: async (who, fd) => {
      const [fdIn, fdOut] = await who.pipe({});
      await who.write({ fd: fdOut, data: 'data' });
      await who.splice({ fdIn, fdOut: fd, offOut: 0, length: 4 });
      for (const end of [fdIn, fdOut]) await who.close({ fd: end });
    },
  },
  'splice from it': {
    opcodes: ['READ'],
    call: async (who, fd) => {
      const [fdIn, fdOut] = await who.pipe({});
      // What was allocated and is not in the page cache.
      await who.splice({ fdIn: fd, offIn: 4096, fdOut, length: 4 });
      for (const end of [fdIn, fdOut]) await who.close({ fd: end });
    },
  },
};

guestTest(
  'all that is done to an open file of an overlay is asked of its layer in the name of who mounted the overlay',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await upperOnFuse(guest, client);
    const { overlay, fuse } = stack;
    await client.chmod({ path: overlay.path, mode: 0o777 });
    await using stranger = await inside(guest, overlay.path);
    const fd = await stranger.open({ path: 'f', flags: 'O_RDWR|O_CREAT' });
    const other = await stranger.open({ path: 'g', flags: 'O_RDWR|O_CREAT' });
    for (const [what, { opcodes, call }] of Object.entries(CALLS)) {
      const after = await fuse.position();
      await call(stranger, fd, other);
      const asked = await fuse.requests({ after });
      t.true(
        asked.some((request) => opcodes.includes(request.opcode)),
        `${what}: the server is asked`,
      );
      const others = asked.filter(({ uid, gid }) => uid !== 0 || gid !== 0).map((request) => request.opcode);
      t.deepEqual(others, [], `${what}: not in the name of who mounted`);
    }
    for (const each of [fd, other]) await stranger.close({ fd: each });
  },
);

guestTest(
  'a copy from one overlay to another is made in the name of who mounted that which is written',
  async (t, guest) => {
    await using client = await guest.client();
    await using mounter = await guest.client({ launcher: AS_GROUP });
    await using source = await lowerOnFuse(guest, client);
    await using target = await upperOnFuse(guest, mounter);
    await client.chmod({ path: target.overlay.path, mode: 0o777 });
    const fdIn = await client.open({ path: source.overlay.file('f'), flags: 'O_RDONLY' });
    const fdOut = await client.open({ path: target.overlay.file('copy'), flags: 'O_RDWR|O_CREAT' });
    const after = await target.fuse.position();
    t.is(await client.copy_file_range({ fdIn, offIn: 0, fdOut, offOut: 0, length: 10 }), 10);
    const written = await target.fuse.requests({ opcode: 'WRITE', after });
    t.deepEqual([...new Set(written.map(({ gid }) => gid))], [GROUP], 'who writes');
    t.is(text(await client.readFile({ path: target.overlay.file('copy') })), 'from below');
    for (const fd of [fdIn, fdOut]) await client.close({ fd });
  },
);
