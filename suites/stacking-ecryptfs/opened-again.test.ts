import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { KeyringKey } from '../lib/ecryptfs-keys.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { ecryptfsOptions, type EcryptfsOptions, type MountRequest } from '../lib/stacked-mount.ts';

/** A file is made so that the keys of its mount open it after the next mount, or it is refused: EINVAL. */

const CONTENTS = 'as it was written';
const REFUSED = 'refused, EINVAL';

/** `sig` is short for `ecryptfs_sig`: there is no more room than a page for options. */
function request(lower: string, signatures: readonly string[], more: EcryptfsOptions = {}): MountRequest {
  const [first = '', ...others] = signatures;
  const options = ecryptfsOptions(first, { ...more, more: others.map((each) => `sig=${each}`) });
  return { source: lower, type: 'ecryptfs', options };
}

/** Mounts, makes a file and unmounts. @returns Who refused it, and how; or that it was made. */
async function make(guest: TestGuest, client: Client, mount: MountRequest): Promise<string> {
  const mounted = await guest.mountErrno(mount, client);
  if (mounted !== 'ok') return `refused, ${mounted}`;
  await using ecryptfs = await guest.mount(mount, client);
  const made = await client.errno.writeFile({ path: ecryptfs.file('f'), data: CONTENTS });
  const unmounted = await ecryptfs.unmount();
  if (unmounted !== 'ok') throw new Error(`umount: ${unmounted}`);
  return made === 'ok' ? 'made' : `refused, ${made}`;
}

/** Mounts and reads it. @returns What is in it, or why nobody knows. */
async function read(guest: TestGuest, client: Client, mount: MountRequest): Promise<string> {
  await using ecryptfs = await guest.mount(mount, client);
  const path = ecryptfs.file('f');
  const opened = await client.errno.readFile({ path });
  if (opened !== 'ok') return `made, and then ${opened}`;
  return text(await client.readFile({ path })) === CONTENTS ? CONTENTS : 'something else';
}

function unlessRefused(seen: string | undefined): string | undefined {
  return seen === REFUSED ? CONTENTS : seen;
}

guestTest(
  'a file whose keys go beyond a page of its header is opened after the next mount, or is not made',
  async (t, guest) => {
    await using client = await guest.client();
    const signature = 'ffffffffffff0001';
    await using _key = await KeyringKey.add(guest, { signature });
    const seen: string[] = [];
    // With a key of 32 bytes they take 71 each: 57 are in the first page, 114 in both.
    for (const count of [57, 58, 114]) {
      const lower = await guest.directory('ext4', 'encrypted');
      const signatures = Array.from({ length: count }, () => signature);
      const mount = request(lower, signatures, { keyBytes: 32 });
      const made = await make(guest, client, mount);
      seen.push(made === 'made' ? await read(guest, client, mount) : made);
    }
    const [fits, one, most] = seen;
    t.is(fits, CONTENTS, '57 keys');
    t.is(unlessRefused(one), CONTENTS, '58 keys');
    t.is(unlessRefused(most), CONTENTS, '114 keys');
  },
);

guestTest(
  'a file whose keys go beyond a page of its header is opened with the last of them alone, or is not made',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    const [first, last] = ['ffffffffffff0002', 'ffffffffffff0003'];
    await using _last = await KeyringKey.add(guest, { signature: last });
    let seen: string;
    {
      await using _first = await KeyringKey.add(guest, { signature: first });
      // With a key of 16 bytes they take 55 each: 74 end with the page.
      const signatures = [...Array.from({ length: 74 }, () => first), last];
      seen = await make(guest, client, request(lower, signatures));
    }
    if (seen === 'made') seen = await read(guest, client, request(lower, [last]));
    t.is(unlessRefused(seen), CONTENTS);
  },
);

guestTest(
  'a file made with a passphrase whose key is not set is there again after another mount, or is not made',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    const signature = 'ffffffffffff0004';
    await using _key = await KeyringKey.add(guest, { signature, keySet: false });
    const mount = request(lower, [signature]);
    const made = await make(guest, client, mount);
    const seen = made === 'made' ? await read(guest, client, mount) : made;
    t.is(unlessRefused(seen), CONTENTS);
  },
);
