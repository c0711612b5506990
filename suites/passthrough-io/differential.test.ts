import type { ExecutionContext } from 'ava';
import { compareSequence, type FreshPlaces } from '../lib/differential/compare-files.ts';
import { generate } from '../lib/differential/generate.ts';
import type { Operation } from '../lib/differential/operation.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { Client } from '../lib/client.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import type { TestGuest } from '../lib/guest.ts';

/** The same sequence in every run; another one with FUSEGATE_SEED. */
const SEED = Number(process.env['FUSEGATE_SEED'] ?? 20_210_119);
const OPERATIONS = 120;
/**
 * What is never drawn, because it is known to differ (known-failures.json): clearing O_APPEND (A8) or O_DIRECT
 * (A9) that a descriptor was opened with, and RWF_NOAPPEND (A6).
 */

/** The first on the file as FUSE has it, the second on a file of the backing filesystem itself. */
function beside(fuse: FuseMount, label: string, direct = true): FreshPlaces {
  return (round) => {
    const [seen, native] = [`${label}-fuse-${round}`, `${label}-native-${round}`];
    return [
      { name: 'passthrough', path: fuse.file(seen), behind: fuse.backing(seen), direct },
      { name: 'native', path: fuse.backing(native), behind: fuse.backing(native), direct },
    ];
  };
}

async function agree(
  t: ExecutionContext,
  guest: TestGuest,
  client: Client,
  { places, seed }: { readonly places: FreshPlaces; readonly seed: number },
): Promise<void> {
  const maps = guest.expected.mapsBackingFile;
  const operations = generate({ seed, count: OPERATIONS, maps });
  const found = await compareSequence(client, places, { operations, maps, seed });
  t.is(found?.text, undefined, found?.text);
}

for (const backing of ['ext4', 'tmpfs'] as const) {
  guestTest(
    `a random sequence of calls gives through passthrough what it gives on ${backing} itself (A5, G2, G3)`,
    async (t, guest) => {
      await using fuse = await guest.mountFuse({ root: backing });
      await using client = await guest.client({ callMs: 20_000 });
      const probe = { path: fuse.backing('probe'), flags: 'O_RDWR|O_CREAT|O_DIRECT' };
      // tmpfs before 6.6 has no direct I/O, which FUSE is not to know of.
      const direct = (await client.errno.open(probe)) === 'ok';
      for (const seed of [SEED, SEED + 1]) {
        t.log(`FUSEGATE_SEED=${seed}`);
        await agree(t, guest, client, { places: beside(fuse, `s${seed}`, direct), seed });
      }
      t.deepEqual(await fuse.dataRequests(), []);
    },
  );
}

guestTest(
  'a random sequence of calls gives without passthrough what it gives on ext4 itself',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client({ callMs: 20_000 });
    // `behind` is one more descriptor of the mount, and O_DIRECT stays away: the cache of FUSE is not coherent
    // with what goes past it, by design.
    const places: FreshPlaces = (round) => {
      const [seen, native] = [fuse.file(`fuse-${round}`), fuse.backing(`native-${round}`)];
      return [
        { name: 'plain FUSE', path: seen, behind: seen, direct: false },
        { name: 'native', path: native, behind: native, direct: true },
      ];
    };
    await agree(t, guest, client, { places, seed: SEED });
    t.true((await fuse.dataRequests()).length > 0, 'this one does go through the server');
  },
);

guestTest('a server that refuses what it should do is found, and in few steps', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client({ callMs: 20_000 });
  await fuse.fail('SETATTR', 'EDQUOT');
  const operations: Operation[] = [
    ...generate({ seed: SEED, count: 20, maps: false }).filter((each) => each.do !== 'ftruncate'),
    { do: 'ftruncate', on: 'a', size: 5 },
    { do: 'pread', on: 'b', offset: 0, length: 5 },
  ];
  const how = { operations, maps: false, seed: SEED, tries: 30 };
  const found = await compareSequence(client, beside(fuse, 'broken'), how);
  t.deepEqual(
    found?.operations.map((each) => each.do),
    ['ftruncate'],
    found?.text,
  );
  t.regex(
    found?.text ?? '',
    /^ftruncate .* gave passthrough: EDQUOT; native: 0\nseed \d+, shrunk to:\n {2}1\. ftruncate/,
  );
});
