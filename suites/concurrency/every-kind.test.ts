import { firstDifference, pattern } from '../lib/bytes.ts';
import type { BatchCall, Client } from '../lib/client.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';

const PAGE = 4096;
/** Pages that each kind of I/O has for itself, one after the other's. */
const PAGES = 12;
const PART = PAGES * PAGE;

interface Kind {
  /** Flags of the descriptor beside O_RDWR. */
  readonly flags?: string;
  /** Calls before the first write, which follow `open`. */
  readonly first?: (part: number) => readonly BatchCall[];
  /** Writes one page at this offset of the file; `at`: how many calls of the batch come before. */
  readonly write: (offset: number, seed: number, at: number) => readonly BatchCall[];
}

const FD = { ref: { of: 0 } };
const made = (seed: number) => ({ make: { length: PAGE, seed } });

/** Every way in which data get into a file. */
const KINDS: Readonly<Record<string, Kind>> = {
  pwrite: { write: (offset, seed) => [{ call: 'pwrite', args: { fd: FD, data: made(seed), offset } }] },
  'direct pwrite': {
    flags: '|O_DIRECT',
    write: (offset, seed) => [{ call: 'pwrite', args: { fd: FD, data: made(seed), offset } }],
  },
  pwritev2: {
    write: (offset, seed) => [
      { call: 'pwritev2', args: { fd: FD, chunks: [made(seed)], offset, flags: 'RWF_DSYNC' } },
    ],
  },
  AIO: {
    write: (offset, seed) => [
      { call: 'aio', args: { operations: [{ op: 'pwrite', fd: FD, data: made(seed), offset }] } },
    ],
  },
  splice: {
    first: () => [{ call: 'pipe', args: {} }],
    write: (offOut, seed) => [
      { call: 'write', args: { fd: { ref: { of: 1, part: 1 } }, data: made(seed) } },
      { call: 'splice', args: { fdIn: { ref: { of: 1, part: 0 } }, fdOut: FD, offOut, length: PAGE } },
    ],
  },
  'store in a mapping': {
    first: (offset) => [
      {
        call: 'mmap',
        args: { fd: FD, length: PART, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED', offset },
      },
    ],
    write: (offset, seed) => [
      { call: 'mwrite', args: { map: { ref: { of: 1 } }, offset: offset % PART, data: made(seed) } },
    ],
  },
};

/** Writes the pages of its part, each read back at once. @returns what went wrong, in words. */
async function fill(client: Client, fuse: FuseMount, name: string, index: number): Promise<string[]> {
  const kind = KINDS[name];
  if (kind === undefined) throw new TypeError(name);
  const start = index * PART;
  const open = { path: fuse.file('f'), flags: `O_RDWR${kind.flags ?? ''}` };
  const calls: BatchCall[] = [{ call: 'open', args: open }, ...(kind.first?.(start) ?? [])];
  const reads: number[] = [];
  for (let page = 0; page < PAGES; page++) {
    const offset = start + page * PAGE;
    calls.push(...kind.write(offset, offset, calls.length));
    reads.push(calls.length);
    calls.push({ call: 'pread', args: { fd: FD, count: PAGE, offset } });
  }
  calls.push({ call: 'close', args: { fd: FD } });
  const results = await client.batch({ calls });
  const failed = results.flatMap((result, at) => {
    return 'errno' in result ? [`${name}: ${calls[at]?.call ?? ''} ${result.errno}`] : [];
  });
  const wrong = reads.flatMap((at, page) => {
    const result = results[at];
    const seen = result !== undefined && 'value' in result ? (result.value as Uint8Array) : new Uint8Array();
    const difference = firstDifference(seen, pattern(PAGE, start + page * PAGE));
    return difference === undefined ? [] : [`${name}: page ${page} read back differs at ${difference}`];
  });
  return [...failed, ...wrong];
}

guestTest(
  'every kind of I/O at once on one file, each in its part: all is read back and all is there (G4)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using one = await guest.client();
    await using other = await guest.client();
    const names = Object.keys(KINDS).filter(
      (name) => name !== 'store in a mapping' || guest.expected.mapsBackingFile,
    );
    await one.writeFile({ path: fuse.backing('f'), data: new Uint8Array(names.length * PART) });
    const work = names.map((name, index) => fill(index % 2 === 0 ? one : other, fuse, name, index));
    t.deepEqual((await Promise.all(work)).flat(), []);
    const contents = await one.readFile({ path: fuse.backing('f') });
    for (const [index, name] of names.entries()) {
      for (let page = 0; page < PAGES; page++) {
        const at = index * PART + page * PAGE;
        const difference = firstDifference(contents.subarray(at, at + PAGE), pattern(PAGE, at));
        t.is(difference, undefined, `page ${page} of ${name} in the backing file`);
      }
    }
    t.is(contents.length, names.length * PART);
    t.deepEqual(await fuse.dataRequests(), []);
  },
);
