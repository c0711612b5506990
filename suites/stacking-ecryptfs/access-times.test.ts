import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { memoryThatEnds } from '../lib/memory-that-ends.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';
import { ecryptfsRequest, type StackedMount } from '../lib/stacked-mount.ts';

/** When something on ecryptfs was read is what the lower filesystem has of it. */

const PAGE = 4096;
const LONG_AGO_NS = 1_500_000_000_000_000_000;
const LONG_AGO = { atimeNs: LONG_AGO_NS, mtimeNs: LONG_AGO_NS };
/** Too little for any name. */
const NO_ROOM = 8;

guestTest(
  'a read of nothing changes the access time below ecryptfs, one that fails does not',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    await client.writeFile({ path: ecryptfs.file('f'), data: 'contents' });
    const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_RDONLY' });
    // From now on it is in the cache: nothing is read from the lower file for it.
    t.is(text(await client.pread({ fd, count: 20, offset: 0 })), 'contents');
    const map = await memoryThatEnds(client, new Uint8Array(PAGE));
    const [end, into] = await client.pipe({});
    const touches = async (read: () => Promise<unknown>, is: number | string): Promise<boolean> => {
      await client.utimens({ path: `${lower}/f`, ...LONG_AGO });
      t.is(await read(), is);
      return (await client.stat({ path: `${lower}/f` })).atimeNs !== LONG_AGO_NS;
    };
    const atEnd = { fd, count: 20, offset: 8 };
    t.true(await touches(async () => (await client.pread(atEnd)).length, 0), 'a read at the end');
    const splice = { fdIn: fd, offIn: 8, fdOut: into, length: 8 };
    t.true(await touches(() => client.splice(splice), 0), 'a splice at the end');
    const nowhere = { fd, map, offset: PAGE, length: 8 };
    t.false(
      await touches(() => client.errno.readInto(nowhere), 'EFAULT'),
      'a read to where there is no memory',
    );
    for (const each of [fd, end, into]) await client.close({ fd: each });
    await client.munmap({ map });
  },
);

/** ecryptfs that keeps no access times of its own. */
async function mountWithoutTimes(guest: TestGuest, client: Client, lower: string): Promise<StackedMount> {
  const request = ecryptfsRequest(lower, await guest.ecryptfsKey());
  return guest.mount({ ...request, flags: 'MS_NOATIME' }, client);
}

guestTest('a listing on ecryptfs tells when the directory below was read', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  await using ecryptfs = await mountWithoutTimes(guest, client, lower);
  await client.mkdir({ path: ecryptfs.file('d') });
  await client.writeFile({ path: ecryptfs.file('d/f'), data: '' });
  const fd = await client.open({ path: ecryptfs.file('d'), flags: 'O_RDONLY|O_DIRECTORY' });
  const told = async () => (await client.fstat({ fd })).atimeNs;
  const below = async () => (await client.stat({ path: `${lower}/d` })).atimeNs;
  const before = await told();
  await client.utimens({ path: `${lower}/d`, ...LONG_AGO });
  t.is(await client.errno.readdirFd({ fd, bytes: NO_ROOM }), 'EINVAL', 'no room for a name');
  t.is(await told(), before, 'nothing was listed');
  for (const [what, names] of Object.entries({ 'a listing': ['.', '..', 'f'], 'its end': [] })) {
    await client.utimens({ path: `${lower}/d`, ...LONG_AGO });
    // By its path it is fetched from below.
    await client.stat({ path: ecryptfs.file('d') });
    t.is(await told(), LONG_AGO_NS, `${what}: before`);
    t.deepEqual((await client.readdirFd({ fd, bytes: 8192 })).sort(), names, what);
    t.not(await below(), LONG_AGO_NS, `${what}: the directory below was read`);
    t.is(await told(), await below(), what);
  }
  await client.close({ fd });
});

guestTest('a listing that fails below ecryptfs tells no access time', async (t, guest) => {
  await using client = await guest.client();
  await using fuse = await guest.mountFuse({ passthrough: 'off', init: WITHOUT_PASSTHROUGH });
  await using ecryptfs = await mountWithoutTimes(guest, client, fuse.path);
  await client.mkdir({ path: ecryptfs.file('d') });
  const fd = await client.open({ path: ecryptfs.file('d'), flags: 'O_RDONLY|O_DIRECTORY' });
  const told = async () => (await client.fstat({ fd })).atimeNs;
  const before = await told();
  await client.utimens({ path: fuse.file('d'), ...LONG_AGO });
  const allow = await fuse.fail({ opcode: ['READDIR', 'READDIRPLUS'] }, 'EDQUOT');
  t.is(await client.errno.readdirFd({ fd, bytes: 8192 }), 'EDQUOT');
  t.is(await told(), before);
  await allow();
  t.deepEqual((await client.readdirFd({ fd, bytes: 8192 })).sort(), ['.', '..'], 'when it does not fail');
  await client.close({ fd });
});

guestTest(
  'following a link or looking up a name on ecryptfs tells access times from below',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    await client.symlink({ target: 'somewhere', path: `${lower}/l` });
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    const link = await client.open({ path: ecryptfs.file('l'), flags: 'O_PATH|O_NOFOLLOW' });
    t.is(await client.readlink({ path: ecryptfs.file('l') }), 'somewhere');
    const { atimeNs } = await client.fstat({ fd: link });
    t.is(atimeNs, (await client.lstat({ path: `${lower}/l` })).atimeNs, 'a link that was followed');

    const root = await client.open({ path: ecryptfs.path, flags: 'O_RDONLY|O_DIRECTORY' });
    await client.utimens({ path: lower, ...LONG_AGO });
    t.is(await client.errno.lstat({ path: ecryptfs.file('missing') }), 'ENOENT');
    t.is(
      (await client.fstat({ fd: root })).atimeNs,
      LONG_AGO_NS,
      'a directory in which a name was looked up',
    );
    for (const fd of [link, root]) await client.close({ fd });
  },
);

guestTest(
  'a directory on ecryptfs that is listed with O_NOATIME keeps its access time below',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    await client.mkdir({ path: ecryptfs.file('d') });
    for (const [flags, kept] of [
      ['O_RDONLY|O_DIRECTORY|O_NOATIME', true],
      ['O_RDONLY|O_DIRECTORY', false],
    ] as const) {
      await client.utimens({ path: `${lower}/d`, ...LONG_AGO });
      const fd = await client.open({ path: ecryptfs.file('d'), flags });
      t.deepEqual(await client.readdirFd({ fd }), [], flags);
      await client.close({ fd });
      t.is((await client.stat({ path: `${lower}/d` })).atimeNs === LONG_AGO_NS, kept, flags);
    }
  },
);
