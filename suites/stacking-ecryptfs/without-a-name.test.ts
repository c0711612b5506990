import { bytes, firstDifference, pattern, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';

/** What is on ecryptfs without a name any more, for who has a descriptor of it. */

const SIZE = 5000;

/** How a file loses its only name `f`; `other` is another file beside it. */
const LOSSES: Readonly<Record<string, (client: Client, at: string) => Promise<unknown>>> = {
  removed: (client, at) => client.unlink({ path: `${at}/f` }),
  replaced: (client, at) => client.rename({ from: `${at}/other`, to: `${at}/f` }),
};

for (const [how, lose] of Object.entries(LOSSES)) {
  guestTest(
    `an open file on ecryptfs that is ${how} is read, written, cut and given a mode as before`,
    async (t, guest) => {
      await using client = await guest.client();
      const lower = await guest.directory('ext4', 'encrypted');
      await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
      for (const name of ['f', 'other']) {
        await client.writeFile({ path: ecryptfs.file(name), data: pattern(SIZE), mode: 0o600 });
      }
      const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_RDWR' });
      await lose(client, ecryptfs.path);
      const read = async () => client.pread({ fd, count: 3 * SIZE, offset: 0 });
      t.is(firstDifference(await read(), pattern(SIZE)), undefined, 'what was in it');
      t.is(await client.errno.pwrite({ fd, data: bytes('anew'), offset: 0 }), 'ok', 'a write');
      t.is(await client.errno.ftruncate({ fd, length: 6 }), 'ok', 'a truncation to less');
      t.is((await read()).length, 6);
      t.is(text((await read()).subarray(0, 4)), 'anew', 'what was written');
      t.is(await client.errno.ftruncate({ fd, length: 2 * SIZE }), 'ok', 'a truncation to more');
      t.is(await client.errno.fchmod({ fd, mode: 0o640 }), 'ok', 'a mode');
      t.is(await client.errno.fsync({ fd }), 'ok');
      const { size, mode, nlink } = await client.fstat({ fd });
      t.deepEqual({ size, mode, nlink }, { size: 2 * SIZE, mode: 0o100_640, nlink: 0 });
      await client.close({ fd });
    },
  );
}

guestTest(
  'a file that is known by an O_PATH descriptor alone tells on ecryptfs what it was when it is removed',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    await client.writeFile({ path: ecryptfs.file('f'), data: pattern(SIZE), mode: 0o600 });
    const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_PATH' });
    await client.unlink({ path: ecryptfs.file('f') });
    const told = async () => {
      const { size, mode, nlink } = await client.fstat({ fd });
      return { size, mode, nlink };
    };
    t.deepEqual(await told(), { size: SIZE, mode: 0o100_600, nlink: 0 });
    const path = `/proc/${client.pid}/fd/${fd}`;
    t.is(await client.errno.chmod({ path, mode: 0o640 }), 'ok', 'a mode is set below all the same');
    t.deepEqual(await told(), { size: SIZE, mode: 0o100_640, nlink: 0 });
    await client.close({ fd });
  },
);
