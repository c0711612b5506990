import { concat } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { eventually } from '../lib/eventually.ts';
import { u64 } from '../lib/entry-answer.ts';
import { NotifyCode, Opcode } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { answerRequest, outHeader } from '../lib/raw-server.ts';

/** So many requests under way at once that several of them are in one of the lists that the kernel has them in. */

/** FUSE_PQ_HASH_BITS: the list is chosen by the number of the request (fs/fuse/fuse_i.h). */
const LIST_BITS = 8;
const GOLDEN_RATIO = 0x61c8_8646_80b5_83ebn;
/** Numbers that are in one list are 144 apart, at the least; each request has the second next. */
const READS = 112;
/** Of each READ. Bytes. */
const SIZE = 8;
/** FUSE_MIN_READ_BUFFER. Bytes. */
const ROOM = 8192;
const PAGE = 4096;
const RESENT = 1n << 63n;
/** More than usual: there are many requests to be made. */
const TRIES = 4000;

function listOf(unique: bigint): number {
  return Number(BigInt.asUintN(64, unique * GOLDEN_RATIO) >> BigInt(64 - LIST_BITS));
}

interface Read {
  readonly unique: bigint;
  readonly offset: number;
}

/** Reads that were made before. */
async function readsFrom(server: Client, device: number): Promise<Read[]> {
  const calls = Array.from({ length: READS }, () => {
    return { call: 'read', args: { fd: device, count: ROOM } } as const;
  });
  const all = await server.batch({ calls, oneThread: true });
  return all.map((each) => {
    const raw = 'value' in each && each.value instanceof Uint8Array ? each.value : undefined;
    if (raw === undefined) throw new Error(`a READ could not be read: ${JSON.stringify(each)}`);
    const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
    if (view.getUint32(4, true) !== Opcode.READ) throw new Error(`opcode ${view.getUint32(4, true)}`);
    return { unique: view.getBigUint64(8, true), offset: Number(view.getBigUint64(48, true)) };
  });
}

/** Those of each list that has several, in the order in which they came. */
function together(reads: readonly Read[]): Read[][] {
  const lists = new Map<number, Read[]>();
  for (const read of reads) {
    const list = listOf(read.unique);
    lists.set(list, [...(lists.get(list) ?? []), read]);
  }
  return [...lists.values()].filter(({ length }) => length > 1);
}

interface UnderWay {
  readonly server: Client;
  readonly device: number;
  /** As they were read from the device. */
  readonly reads: readonly Read[];
  /** What each of them gave, in the order of the offsets. */
  readonly results: Promise<{ result: number | string; data: Uint8Array | null }[]>;
}

async function underWay(guest: TestGuest, stack: AsyncDisposableStack): Promise<UnderWay> {
  const init = { maxWrite: PAGE, maxBackground: 1000, addFlags: ['ASYNC_DIO'] } as const;
  const fuse = stack.use(await guest.mountFuse({ passthrough: 'off', init, attrValidS: 1000 }));
  const client = stack.use(await guest.client());
  const server = stack.use(await guest.client());
  await client.writeFile({ path: fuse.backing('f'), data: new Uint8Array(READS * SIZE) });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_DIRECT' });
  await client.fstat({ fd });
  const device = await fuse.server.lendDevice(server);
  await fuse.server.kill('SIGKILL');
  const results = client.aio({
    operations: Array.from(
      { length: READS },
      (_none, nth) => ({ op: 'pread', fd, count: SIZE, offset: nth * SIZE }) as const,
    ),
  });
  results.catch(() => undefined);
  const waiting = await eventually(
    () => fuse.waiting(),
    (count) => count === READS,
    TRIES,
  );
  if (waiting !== READS) throw new Error(`${waiting} requests, not ${READS}`);
  return { server, device, reads: await readsFrom(server, device), results };
}

/** Says which of them it is. */
function contents({ offset }: Read): Uint8Array {
  return u64(BigInt(offset + 1));
}

guestTest(
  'each of many requests gets the answer that names it, whichever of them is answered first',
  async (t, guest) => {
    await using stack = new AsyncDisposableStack();
    const { server, device, reads, results } = await underWay(guest, stack);
    t.true(together(reads).length > 0, 'there are some in one list');
    const answers = [...reads].reverse().map((read) => {
      const data = concat(outHeader({ unique: read.unique, bodyBytes: SIZE }), contents(read));
      return { call: 'write', args: { fd: device, data } } as const;
    });
    const taken = await server.batch({ calls: answers, oneThread: true });
    t.deepEqual(
      taken,
      answers.map(({ args }) => ({ value: args.data.length })),
      'every answer is taken',
    );
    const got = (await results).map(({ data }) => data);
    const expected = Array.from({ length: READS }, (_none, nth) =>
      contents({ unique: 0n, offset: nth * SIZE }),
    );
    t.deepEqual(got, expected, 'what each read gave, the newest answered first');
  },
);

guestTest(
  'requests of one list are sent anew in the order in which they were made (H11)',
  async (t, guest) => {
    guest.needs(guest.expected.resend === 'ok', 'FUSE_NOTIFY_RESEND');
    await using stack = new AsyncDisposableStack();
    const { server, device, reads } = await underWay(guest, stack);
    const before = together(reads);
    t.true(before.length > 0, 'there are some in one list');
    t.is(await answerRequest(server, device, { unique: 0n, error: NotifyCode.RESEND }), 'ok');
    const anew = (await readsFrom(server, device)).map((read) => ({
      ...read,
      unique: read.unique & ~RESENT,
    }));
    const inOrder = (lists: Read[][]): string[] =>
      lists.map((list) => list.map(({ offset }) => offset / SIZE).join(' then ')).sort();
    t.deepEqual(inOrder(together(anew)), inOrder(before), 'reads of each list, by their number');
  },
);
