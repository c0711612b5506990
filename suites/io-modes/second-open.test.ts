import type { Client } from '../lib/client.ts';
import { SyscallError } from '../lib/client.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { openFlagNames } from '../lib/open-flag-names.ts';
import { mountWithModes, openAs, register, type OpenMode } from '../lib/open-modes.ts';

interface Row {
  readonly first: OpenMode;
  readonly second: OpenMode;
  /** Which registration the second answer names. Default `same`. */
  readonly id?: 'same' | 'other file' | 'same file again';
  readonly expected: string;
  /** Of the first open. Default O_RDWR. */
  readonly flags?: string;
}

/** What the first open of a file allows the second, while both are open. */
const WITH_PASSTHROUGH_OPEN: readonly Row[] = [
  { first: 'passthrough', second: 'cached', expected: 'EIO' },
  { first: 'passthrough', second: 'direct', expected: 'EIO' },
  { first: 'passthrough', second: 'passthrough', expected: 'ok' },
  { first: 'passthrough', second: 'passthrough-direct', expected: 'ok' },
  { first: 'passthrough-direct', second: 'cached', expected: 'EIO' },
  { first: 'passthrough-direct', second: 'direct', expected: 'EIO' },
  { first: 'passthrough-direct', second: 'passthrough', expected: 'ok' },
  { first: 'passthrough-direct', second: 'passthrough-direct', expected: 'ok' },
];

const WITH_ANOTHER_ID: readonly Row[] = [
  { first: 'passthrough', second: 'passthrough', id: 'other file', expected: 'EIO' },
  { first: 'passthrough', second: 'passthrough', id: 'same file again', expected: 'EIO' },
  { first: 'passthrough', second: 'passthrough-direct', id: 'same file again', expected: 'EIO' },
];

const WITH_ANOTHER_MODE: readonly Row[] = [
  { first: 'cached', second: 'passthrough', expected: 'EIO' },
  { first: 'cached', second: 'passthrough-direct', expected: 'EIO' },
  // O_DIRECT may be taken back by fcntl(2), and says nothing of the mode.
  { first: 'cached', second: 'passthrough', expected: 'EIO', flags: 'O_RDWR|O_DIRECT' },
  { first: 'cached', second: 'cached', expected: 'ok' },
  { first: 'cached', second: 'direct', expected: 'ok' },
  { first: 'direct', second: 'passthrough', expected: 'ok' },
  { first: 'direct', second: 'passthrough-direct', expected: 'ok' },
  { first: 'direct', second: 'cached', expected: 'ok' },
];

interface Outcome {
  /** The second open while the first is open, and once more when it is not. */
  readonly beside: string;
  readonly alone: string;
}

async function outcomeOf(
  client: Client,
  fuse: FuseMount,
  opens: {
    name: string;
    first: OpenMode;
    second: OpenMode;
    firstId: number;
    secondId: number;
    flags: string | undefined;
  },
): Promise<Outcome> {
  const { name, firstId, secondId, flags = 'O_RDWR' } = opens;
  const first = await openAs(client, fuse, { name, mode: opens.first, id: firstId, flags });
  const again = { name, mode: opens.second, id: secondId };
  const beside = await errnoOfOpen(client, fuse, again);
  await client.close({ fd: first });
  return { beside, alone: await errnoOfOpen(client, fuse, again) };
}

/** Opens and closes again. */
async function errnoOfOpen(
  client: Client,
  fuse: FuseMount,
  how: { name: string; mode: OpenMode; id: number },
): Promise<string> {
  try {
    await client.close({ fd: await openAs(client, fuse, how) });
    return 'ok';
  } catch (error) {
    if (error instanceof SyscallError) return error.errno;
    throw error;
  }
}

const TABLES = {
  'beside a passthrough open only opens of the same mode are allowed (D2, D5)': WITH_PASSTHROUGH_OPEN,
  'beside a passthrough open no other registration is taken, not even of the same file (D3, D4)':
    WITH_ANOTHER_ID,
  'beside a cached open there is no passthrough, beside a direct one there is (D1)': WITH_ANOTHER_MODE,
};

for (const [title, rows] of Object.entries(TABLES)) {
  guestTest(title, async (t, guest) => {
    await using fuse = await mountWithModes(guest);
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('other'), data: 'other' });
    const other = await register(fuse, 'other');
    for (const [index, { first, second, id = 'same', expected, flags }] of rows.entries()) {
      const name = `f${index}`;
      await client.writeFile({ path: fuse.backing(name), data: 'contents' });
      const firstId = await register(fuse, name);
      const again = id === 'same file again' ? await register(fuse, name) : firstId;
      const secondId = id === 'other file' ? other : again;
      const outcome = await outcomeOf(client, fuse, { name, first, second, firstId, secondId, flags });
      const row = `${first}${flags === undefined ? '' : ` with ${flags}`}, then ${second} (${id} id)`;
      t.deepEqual(outcome, { beside: expected, alone: 'ok' }, row);
    }
  });
}

guestTest(
  'an open that its mode forbids is released at the server, and leaves the first one whole (C15)',
  async (t, guest) => {
    await using fuse = await mountWithModes(guest);
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const id = await register(fuse, 'f');
    const fd = await openAs(client, fuse, { name: 'f', mode: 'passthrough', id });

    t.is(await errnoOfOpen(client, fuse, { name: 'f', mode: 'cached', id: 0 }), 'EIO');
    const [, refused] = await fuse.requests('OPEN');
    const release = await fuse.waitFor('RELEASE');
    t.is(release.args['fh'], refused?.reply?.open?.fh);
    t.is(openFlagNames(release.args['flags']), 'O_RDWR', 'with the flags of the open');
    t.is((await client.pread({ fd, count: 100, offset: 0 })).length, 8);
    t.is(await client.pwrite({ fd, data: 'C', offset: 0 }), 1);
    await client.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);
