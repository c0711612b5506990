import { ecryptfsOnFuse } from '../lib/ecryptfs-on-fuse.ts';
import { guestTest } from '../lib/guest-test.ts';

/** Names that ecryptfs meets for the first time, or that were not there when it looked before. */

const CHARACTERS = 0o020_000;

guestTest(
  'a device below ecryptfs is opened as what it is, also by who is the first to look for it',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    await client.mknod({ path: `${lower}/zero`, mode: CHARACTERS | 0o600, major: 1, minor: 5 });
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    // Nothing else may look at it before: a stat fetches its number from below.
    const path = ecryptfs.file('zero');
    t.is(await client.errno.open({ path, flags: 'O_RDONLY' }), 'ok', 'opened at once');
    const fd = await client.open({ path, flags: 'O_RDONLY' });
    t.deepEqual(await client.read({ fd, count: 4 }), new Uint8Array(4), 'the device of zeros');
    await client.close({ fd });
  },
);

guestTest(
  'a name that was not there is looked up again below ecryptfs as long as the lower server says so',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await ecryptfsOnFuse(guest, client);
    const { ecryptfs, fuse } = stack;
    const path = ecryptfs.file('later');
    for (const time of ['first', 'second']) {
      const after = await fuse.position();
      t.is(await client.errno.stat({ path }), 'ENOENT', `the ${time} time`);
      const asked = await fuse.requests({ opcode: 'LOOKUP', path: '/later', after });
      t.true(asked.length > 0, `the server is asked for a name that is not there, the ${time} time`);
    }
    await client.mkdir({ path: fuse.backing('later') });
    t.is(await client.errno.stat({ path }), 'ok', 'it is there when the server has it');
  },
);
