import { text } from '../lib/bytes.ts';
import type { BatchCall, Client } from '../lib/client.ts';
import { backingMap, DeviceIoctl, type RequestRecord, type Rule } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import {
  answeredOpen,
  everyPassthroughAnswer,
  openAnswerNames,
  PAIRS_OF_FLAGS,
  type AnsweredOpen,
} from '../lib/open-answer-model.ts';

const SERVED = 'what the server reads';
const BACKING = 'what the backing file has';
/** The first registration of a connection, and in the 2021 series the next after it has been used. */
const FIRST_ID = 1;

type Calls = BatchCall[];
type Results = Awaited<ReturnType<Client['batch']>>;
interface Bench {
  readonly fuse: FuseMount;
  readonly client: Client;
  readonly opcode: 'OPEN' | 'CREATE';
  /** Registers once more, where one open uses a registration up. */
  readonly register: Calls;
  readonly combinations: readonly number[];
}

/** Opens, asks for the position, reads twice, closes. `at`: how many calls of the batch come before. */
function callsOn(path: string, flags: string, at: number): Calls {
  const fd = { ref: { of: at } };
  return [
    { call: 'open', args: { path, flags } },
    { call: 'lseek', args: { fd, offset: 0, whence: 'SEEK_CUR' } },
    { call: 'read', args: { fd, count: 100 } },
    { call: 'read', args: { fd, count: 100 } },
    { call: 'close', args: { fd } },
  ];
}

async function play(bench: Bench): Promise<AnsweredOpen[]> {
  const { fuse, client, opcode, register, combinations } = bench;
  const calls: Calls = [];
  const starts: number[] = [];
  for (const openFlags of combinations) {
    const created = opcode === 'CREATE';
    calls.push(...register);
    starts.push(calls.length);
    const path = fuse.file(created ? `new-${openFlags}` : 'f');
    calls.push(...callsOn(path, created ? 'O_RDWR|O_CREAT|O_EXCL' : 'O_RDWR', calls.length));
  }
  const results = await client.batch({ calls });
  const requests = await fuse.requests({ opcode: [opcode, 'READ', 'FLUSH'] });
  const opens = requests.filter((each) => each.opcode === opcode);
  return starts.map((start, at) => {
    const fh = opens[at]?.reply?.open?.fh;
    return outcome(
      results.slice(start, start + 5),
      requests.filter(({ args }) => args['fh'] === fh),
    );
  });
}

function outcome([open, seek, first]: Results, requests: readonly RequestRecord[]): AnsweredOpen {
  const errno = (result: Results[number] | undefined): string => {
    return result !== undefined && 'errno' in result ? result.errno : 'ok';
  };
  const data = first !== undefined && 'value' in first ? text(first.value as Uint8Array) : null;
  const whose = { [BACKING]: 'backing file', [SERVED]: 'server', '': 'server' } as const;
  return {
    open: errno(open),
    data: data === null ? null : whose[data as keyof typeof whose],
    readsAtServer: requests.filter(({ opcode }) => opcode === 'READ').length === 2,
    seek: errno(seek),
    flushes: requests.some(({ opcode }) => opcode === 'FLUSH'),
  };
}

/** Clients register in the server's stead, so that it can be one call among others. */
async function registration(guest: TestGuest, fuse: FuseMount, client: Client): Promise<Calls> {
  await client.writeFile({ path: fuse.backing('f'), data: SERVED });
  await client.writeFile({ path: fuse.backing('b'), data: BACKING });
  const fd = await fuse.server.lendDevice(client);
  const arg = backingMap(await client.open({ path: fuse.backing('b'), flags: 'O_RDWR' }));
  const request = DeviceIoctl.BACKING_OPEN;
  if (guest.expected.idsAreReusable) {
    const { ret } = await client.ioctl({ fd, request, arg });
    if (ret !== FIRST_ID) throw new Error(`the first id is ${ret}`);
    return [];
  }
  return [{ call: 'ioctl', args: { fd, request, arg } }];
}

interface Answers {
  readonly opcode: Bench['opcode'];
  readonly registered: boolean;
}

function combinationsFor({ opcode, registered }: Answers, { expected }: TestGuest): readonly number[] {
  return opcode === 'OPEN' && registered ? everyPassthroughAnswer(expected) : PAIRS_OF_FLAGS;
}

/** Each answer once, in this order: of rules that match, the one that is added last applies. */
function answers({ opcode, registered }: Answers, combinations: readonly number[]): readonly Rule[] {
  return combinations.toReversed().map((openFlags) => {
    const open = { openFlags, backingId: registered ? FIRST_ID : 0 };
    return { match: { opcode }, times: 1, action: { do: 'open', open } };
  });
}

for (const opcode of ['OPEN', 'CREATE'] as const) {
  for (const registered of [true, false]) {
    const how = registered ? 'a registered id' : 'no id';
    guestTest(
      `an answer to ${opcode} with ${how} does what the rules say, whatever flags it has (B18, B19, B21)`,
      async (t, guest) => {
        const combinations = combinationsFor({ opcode, registered }, guest);
        const rules = answers({ opcode, registered }, combinations);
        const valid = { entryValidS: 3600, attrValidS: 3600 };
        await using fuse = await guest.mountFuse({ passthrough: 'off', rules, ...valid });
        await using client = await guest.client();
        const again = await registration(guest, fuse, client);
        const register = registered ? again : [];
        const seen = await play({ fuse, client, opcode, register, combinations });
        for (const [at, openFlags] of combinations.entries()) {
          const expected = answeredOpen(guest.expected, openFlags, registered);
          t.deepEqual(seen[at], expected, `${opcode} answered with ${openAnswerNames(openFlags)} and ${how}`);
        }
      },
    );
  }
}
