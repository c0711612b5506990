import { createHash } from 'node:crypto';
import { firstDifference, pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { needsMappings } from '../lib/registration.ts';

const PAGE = 4096;
/** Not a divisor of a page: neighbours share pages, and each write touches two of them now and then. */
const RECORD_BYTES = 1500;
const ROUNDS = 24;

const seedOf = (who: number, round: number): number => 1 + who * 1000 + round;
const sha1 = (data: Uint8Array): string => createHash('sha1').update(data).digest('hex');

interface Worker {
  readonly who: number;
  readonly of: number;
  readonly path: string;
  readonly flags?: string;
}

/** Record `round * of + who` is this worker's: written, and read again at once. */
async function writeOwnRecords(
  client: Client,
  { who, of, path, flags = 'O_RDWR' }: Worker,
): Promise<string[]> {
  const fd = { ref: { of: 0 } };
  const rounds = Array.from({ length: ROUNDS }, (_none, round) => {
    const offset = (round * of + who) * RECORD_BYTES;
    const data = { make: { length: RECORD_BYTES, seed: seedOf(who, round) } };
    return [
      { call: 'pwrite', args: { fd, data, offset } },
      { call: 'pread', args: { fd, count: RECORD_BYTES, offset } },
    ] as const;
  });
  const calls = [
    { call: 'open', args: { path, flags } } as const,
    ...rounds.flat(),
    { call: 'close', args: { fd } } as const,
  ];
  const results = await client.batch({ calls, digests: true });
  return wrong(results.slice(1, -1), who);
}

/** What was not as it should be, in words; empty when all was. */
function wrong(results: readonly unknown[], who: number): string[] {
  return Array.from({ length: ROUNDS }, (_none, round) => {
    const expected = pattern(RECORD_BYTES, seedOf(who, round));
    const wanted = [{ value: RECORD_BYTES }, { value: { length: RECORD_BYTES, sha1: sha1(expected) } }];
    const got = results.slice(2 * round, 2 * round + 2);
    return JSON.stringify(got) === JSON.stringify(wanted)
      ? ''
      : `worker ${who}, round ${round}: ${JSON.stringify(got)}`;
  }).filter(Boolean);
}

function allRecords(workers: number): Uint8Array {
  const contents = new Uint8Array(workers * ROUNDS * RECORD_BYTES);
  for (let who = 0; who < workers; who++) {
    for (let round = 0; round < ROUNDS; round++) {
      contents.set(pattern(RECORD_BYTES, seedOf(who, round)), (round * workers + who) * RECORD_BYTES);
    }
  }
  return contents;
}

guestTest('processes that write neighbouring records of one file lose none (G1)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  const clients = await Promise.all([guest.client(), guest.client(), guest.client()]);
  const [first] = clients;
  try {
    await first.writeFile({ path: fuse.backing('f'), data: '' });
    const of = clients.length;
    const path = fuse.file('f');
    const all = clients.map((client, who) => writeOwnRecords(client, { who, of, path }));
    t.deepEqual((await Promise.all(all)).flat(), []);
    const contents = await first.readFile({ path: fuse.backing('f') });
    t.is(firstDifference(contents, allRecords(of)), undefined);
    t.is((await first.stat({ path })).size, contents.length, 'the size after all the extending writes');
    t.deepEqual(await fuse.dataRequests(), []);
  } finally {
    await Promise.all(clients.map((client) => client[Symbol.asyncDispose]()));
  }
});

guestTest(
  'threads that share one descriptor lose nothing, with or without positions (G1)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_CREAT' });
    const records = Array.from({ length: 24 }, (_none, index) => pattern(RECORD_BYTES, seedOf(0, index)));
    // write(2) holds the position's lock: records come in some order, whole, one behind the other.
    const counts = await Promise.all(records.map((data) => client.write({ fd, data })));
    t.deepEqual(new Set(counts), new Set([RECORD_BYTES]));
    const contents = await client.readFile({ path: fuse.backing('f') });
    t.is(contents.length, records.length * RECORD_BYTES);
    const seen = records.map((_each, at) =>
      sha1(contents.subarray(at * RECORD_BYTES, (at + 1) * RECORD_BYTES)),
    );
    t.deepEqual([...seen].sort(), records.map(sha1).sort());
    await client.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest(
  'writers through the mount and at the backing path do not undo each other (G3)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using through = await guest.client();
    await using behind = await guest.client();
    await through.writeFile({ path: fuse.backing('f'), data: '' });

    const all = [
      writeOwnRecords(through, { who: 0, of: 2, path: fuse.file('f') }),
      writeOwnRecords(behind, { who: 1, of: 2, path: fuse.backing('f') }),
    ];
    t.deepEqual((await Promise.all(all)).flat(), []);
    const expected = allRecords(2);
    t.is(firstDifference(await through.readFile({ path: fuse.backing('f') }), expected), undefined);
    t.is(firstDifference(await behind.readFile({ path: fuse.file('f') }), expected), undefined);
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest('appends from two sides at once are all there, whole (A7, G3)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using through = await guest.client();
  await using behind = await guest.client();
  await through.writeFile({ path: fuse.backing('f'), data: '' });
  const append = async (client: Client, path: string, who: number): Promise<void> => {
    const fd = { ref: { of: 0 } };
    const writes = Array.from({ length: ROUNDS }, (_none, round) => {
      const data = { make: { length: RECORD_BYTES, seed: seedOf(who, round) } };
      return { call: 'write', args: { fd, data } } as const;
    });
    const opened = { call: 'open', args: { path, flags: 'O_WRONLY|O_APPEND' } } as const;
    await client.batch({ calls: [opened, ...writes, { call: 'close', args: { fd } }] });
  };

  await Promise.all([append(through, fuse.file('f'), 0), append(behind, fuse.backing('f'), 1)]);
  const contents = await through.readFile({ path: fuse.backing('f') });
  const parts = Array.from({ length: 2 * ROUNDS }, (_none, at) =>
    sha1(contents.subarray(at * RECORD_BYTES, (at + 1) * RECORD_BYTES)),
  );
  const written = [0, 1].map((who) =>
    Array.from({ length: ROUNDS }, (_none, round) => sha1(pattern(RECORD_BYTES, seedOf(who, round)))),
  );
  t.is(contents.length, 2 * ROUNDS * RECORD_BYTES);
  for (const own of written)
    t.deepEqual(
      parts.filter((each) => own.includes(each)),
      own,
      'in order',
    );
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('stores in a mapping stay while others truncate and write directly (G6)', async (t, guest) => {
  needsMappings(guest);
  await using fuse = await guest.mountFuse();
  await using mapper = await guest.client();
  await using other = await guest.client();
  await other.writeFile({ path: fuse.backing('f'), data: new Uint8Array(PAGE) });
  const map = { ref: { of: 1 } };
  const stores = Array.from({ length: 60 }, (_none, round) => {
    const data = { make: { length: 100, seed: 1 + round } };
    return [
      { call: 'mwrite', args: { map, offset: 100 * (round % 40), data } },
      { call: 'mread', args: { map, offset: 100 * (round % 40), length: 100 } },
    ] as const;
  }).flat();
  const shared = { length: 4 * PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' };
  const mapped = mapper.batch({
    calls: [
      { call: 'open', args: { path: fuse.file('f'), flags: 'O_RDWR' } },
      { call: 'mmap', args: { fd: { ref: { of: 0 } }, ...shared } },
      ...stores,
      { call: 'munmap', args: { map } },
      { call: 'close', args: { fd: { ref: { of: 0 } } } },
    ],
    digests: true,
  });
  const cuts = Array.from({ length: 15 }, (_none, round) => {
    const data = { make: { length: PAGE, seed: 5000 + round } };
    return [
      { call: 'ftruncate', args: { fd: { ref: { of: 0 } }, length: 4 * PAGE } },
      { call: 'pwrite', args: { fd: { ref: { of: 1 } }, offset: 2 * PAGE, data } },
      { call: 'ftruncate', args: { fd: { ref: { of: 0 } }, length: PAGE } },
    ] as const;
  }).flat();
  const cut = other.batch({
    calls: [
      { call: 'open', args: { path: fuse.file('f'), flags: 'O_RDWR' } },
      { call: 'open', args: { path: fuse.file('f'), flags: 'O_RDWR|O_DIRECT' } },
      ...cuts,
      { call: 'close', args: { fd: { ref: { of: 0 } } } },
      { call: 'close', args: { fd: { ref: { of: 1 } } } },
    ],
  });
  const [stored, truncated] = await Promise.all([mapped, cut]);
  t.deepEqual(
    truncated.filter((each) => 'errno' in each),
    [],
  );
  const read = stored.slice(2, -2).filter((_each, index) => index % 2 === 1);
  const expected = Array.from({ length: 60 }, (_none, round) => {
    return { value: { length: 100, sha1: sha1(pattern(100, 1 + round)) } };
  });
  t.deepEqual(read, expected, 'each load gives what was just stored');
  const contents = await other.readFile({ path: fuse.backing('f') });
  t.is(contents.length, PAGE);
  for (const round of [20, 30, 39, 40, 59]) {
    const at = 100 * (round % 40);
    t.deepEqual(contents.subarray(at, at + 100), pattern(100, 1 + round), `store ${round}`);
  }
  t.deepEqual(await fuse.dataRequests(), []);
});

async function openFiles(client: Client): Promise<number> {
  const numbers = await client.readFile({ path: '/proc/sys/fs/file-nr' });
  return Number(Buffer.from(numbers).toString().split(/\s+/)[0]);
}

/** Opens, maps, reads, writes and closes one file after the other, so often. */
async function storm(client: Client, paths: readonly string[], guest: TestGuest): Promise<number> {
  const maps = guest.expected.mapsBackingFile;
  const size = maps ? 7 : 4;
  const calls = paths.flatMap((path, index) => {
    const fd = { ref: { of: index * size } };
    const map = { ref: { of: index * size + 3 } };
    const shared = { length: PAGE, prot: 'PROT_READ', flags: 'MAP_SHARED' };
    const mapping = [
      { call: 'mmap', args: { fd, ...shared } },
      { call: 'mread', args: { map, offset: 0, length: 8 } },
      { call: 'munmap', args: { map } },
    ] as const;
    return [
      { call: 'open', args: { path, flags: 'O_RDWR' } } as const,
      { call: 'pwrite', args: { fd, data: { make: { length: 8, seed: 1 } }, offset: 0 } } as const,
      { call: 'pread', args: { fd, count: 8, offset: 0 } } as const,
      ...(maps ? mapping : []),
      { call: 'close', args: { fd } } as const,
    ];
  });
  const results = await client.batch({ calls, digests: true });
  return results.filter((each) => 'errno' in each).length;
}

guestTest(
  'a storm of opens, registrations and closes leaves nothing behind (G7, G12, C19)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using one = await guest.client();
    await using other = await guest.client();
    const names = ['x', 'y', 'z'];
    for (const name of names) await one.writeFile({ path: fuse.backing(name), data: pattern(100) });
    const paths = Array.from({ length: 45 }, (_none, index) => fuse.file(names[index % 3] ?? ''));
    await storm(one, paths.slice(0, 3), guest);
    const before = await openFiles(one);

    const failed = await Promise.all([storm(one, paths, guest), storm(other, paths, guest)]);
    t.deepEqual(failed, [0, 0], 'every call worked');
    const opens = await fuse.requests('OPEN');
    t.is(opens.length, 93);
    t.true(
      opens.every(({ reply }) => (reply?.open?.backingId ?? 0) > 0),
      'each with an id',
    );
    await allReleased(fuse, opens.length);
    t.deepEqual((await fuse.state()).backingIds, []);
    t.false(
      await guest.isBackingBusy(),
      'no open file, no mapping and no registration of the backing filesystem',
    );
    t.true((await openFiles(one)) - before < 60, 'fewer open files than opens');
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

async function allReleased(fuse: Awaited<ReturnType<TestGuest['mountFuse']>>, count: number): Promise<void> {
  let after = 0;
  for (let seen = 0; seen < count; seen++) {
    after = (await fuse.waitFor({ opcode: 'RELEASE', after }, 'answered')).seq;
  }
}
