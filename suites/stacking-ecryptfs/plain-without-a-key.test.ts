import { firstDifference, pattern, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { lowerFile, passphrasePacket, signaturePacket } from '../lib/ecryptfs-packets.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { ecryptfsOptions } from '../lib/stacked-mount.ts';

/** An encrypted file whose key nobody has: with ecryptfs_passthrough it is a file like any other that is not decrypted. */

/** Signature of no key. */
const NOBODYS = '0123456789abcdef';
const SIZE = 5000;

async function fileOfNobody(guest: TestGuest, client: Client, ...more: string[]) {
  const lower = await guest.directory('ext4', 'encrypted');
  const packets = [passphrasePacket({ wrapped: pattern(16, 1) }), signaturePacket({ signature: NOBODYS })];
  const stored = lowerFile({ packets, fileKey: pattern(16, 7), data: pattern(SIZE) });
  await client.writeFile({ path: `${lower}/f`, data: stored, mode: 0o600 });
  const options = ecryptfsOptions(await guest.ecryptfsKey(), { more });
  const ecryptfs = await guest.mount({ source: lower, type: 'ecryptfs', options }, client);
  return { ecryptfs, path: ecryptfs.file('f'), below: `${lower}/f`, stored };
}

guestTest(
  'a file whose key nobody has is shown as it is with ecryptfs_passthrough alone',
  async (t, guest) => {
    await using client = await guest.client();
    {
      const { ecryptfs, path } = await fileOfNobody(guest, client);
      await using _mounted = ecryptfs;
      t.is(await client.errno.readFile({ path }), 'EIO', 'without it');
    }
    const { ecryptfs, path, stored } = await fileOfNobody(guest, client, 'ecryptfs_passthrough');
    await using _mounted = ecryptfs;
    for (const time of ['first', 'second']) {
      const seen = await client.readFile({ path });
      t.is(firstDifference(seen, stored.subarray(0, SIZE)), undefined, `the ${time} time`);
    }
  },
);

guestTest(
  'a file whose key nobody has is cut as it is with ecryptfs_passthrough, also by its path alone',
  async (t, guest) => {
    await using client = await guest.client();
    const { ecryptfs, path, below, stored } = await fileOfNobody(guest, client, 'ecryptfs_passthrough');
    await using _mounted = ecryptfs;
    t.is(await client.errno.chmod({ path, mode: 0o640 }), 'ok');
    t.is((await client.stat({ path: below })).mode & 0o777, 0o640, 'mode below');
    t.is(await client.errno.truncate({ path, length: 100 }), 'ok');
    const kept = await client.readFile({ path: below });
    t.is(firstDifference(kept, stored.subarray(0, 100)), undefined, 'what is left below');
    t.is((await client.stat({ path })).size, 100);
  },
);

guestTest(
  'with ecryptfs_passthrough an empty lower file gets no header, and is written in the clear',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'plain');
    await client.writeFile({ path: `${lower}/f`, data: '' });
    const options = ecryptfsOptions(await guest.ecryptfsKey(), { more: ['ecryptfs_passthrough'] });
    await using ecryptfs = await guest.mount({ source: lower, type: 'ecryptfs', options }, client);
    const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_RDWR' });
    t.is((await client.stat({ path: `${lower}/f` })).size, 0, 'the lower file, once it is open');
    t.is((await client.pread({ fd, count: 100, offset: 0 })).length, 0, 'nothing to read');
    await client.pwrite({ fd, data: 'in the clear', offset: 0 });
    t.is(text(await client.readFile({ path: `${lower}/f` })), 'in the clear', 'below');
    t.is(text(await client.pread({ fd, count: 100, offset: 0 })), 'in the clear');
    await client.close({ fd });
  },
);
