import { z } from 'zod';
import type { ChildId } from '#rootfs/protocol/calls.ts';
import { Failure } from '#runner/lib/failure.ts';
import { parseJson } from '#runner/lib/json.ts';
import type { PartContext } from '#runner/run/parts.ts';
import type { StartOptions } from '#runner/run/start-guest.ts';
import { bootAndDeploy } from '#runner/run/start-guest.ts';
import { asking, type Ask } from '#runner/state/warm-up.ts';
import type { Figure } from './figure.ts';
import { figure } from './figure.ts';
import { pairedRatios } from './spread.ts';

const PATTERNS = ['read', 'write', 'randread', 'randwrite'] as const;
const WAYS = ['native', 'passthrough', 'plain'] as const;
type Way = (typeof WAYS)[number];

const SECONDS = 2;
/** For one run of fio on a machine with KVM. Milliseconds. */
const CALL_MS = 20_000;

const Side = z.object({ iops: z.number() });
/** `job_runtime` is in milliseconds (fio(1), JSON output). */
const Job = z.object({ read: Side, write: Side, job_runtime: z.number().positive() });
const Requests = z.object({ lastSeq: z.number() });
const FioResult = z.object({ jobs: z.tuple([Job]) });

/** fio on ext4, on a passthrough file over it, and through the server. @throws Failure E_BENCH_FIO (infra). */
export async function measureFio(
  start: StartOptions,
  abi: 'backing-id' | 'fd',
  rounds: number,
  context: PartContext,
): Promise<readonly Figure[]> {
  await using stack = new AsyncDisposableStack();
  const guest = await bootAndDeploy(start, 'fio', { ...context, emit: () => undefined }, stack);
  const ask = asking(guest, context.signal, CALL_MS);
  const { path: root } = await ask('dir.make', { in: 'ext4', name: 'fio' });
  const passthrough = await served(ask, { root, passthrough: 'auto', abi });
  const plain = await served(ask, { root, passthrough: 'off', abi });
  const directories: Readonly<Record<Way, string>> = {
    native: root,
    passthrough: passthrough.mountPoint,
    plain: plain.mountPoint,
  };
  const figures: Figure[] = [];
  const requestRates: number[] = [];
  for (const pattern of PATTERNS) {
    const rates: Record<Way, number[]> = { native: [], passthrough: [], plain: [] };
    for (let round = 0; round < rounds; round++) {
      // Another one begins each round: what one leaves in the page cache is not always to the same one's good.
      for (let turn = 0; turn < WAYS.length; turn++) {
        const way = WAYS[(round + turn) % WAYS.length] ?? 'native';
        const counted = way === 'plain' && pattern === 'randread';
        const before = counted ? await requestsSoFar(ask, plain.server) : 0;
        const { iops, seconds } = await fio(ask, pattern, `${directories[way]}/${way}`);
        rates[way].push(iops / 1000);
        if (counted) requestRates.push(((await requestsSoFar(ask, plain.server)) - before) / seconds);
      }
    }
    context.emit({ type: 'note', text: `fio ${pattern}: ${rounds} rounds done` });
    figures.push(
      ...WAYS.map((way) => figure(`fio.${pattern}.${way}`, `${pattern}, ${way}`, 'kIOPS', rates[way])),
      figure(
        `fio.${pattern}.of-native`,
        `${pattern}: passthrough / native`,
        'times',
        pairedRatios(rates.passthrough, rates.native),
      ),
      figure(
        `fio.${pattern}.gain`,
        `${pattern}: passthrough / plain FUSE`,
        'times',
        pairedRatios(rates.passthrough, rates.plain),
      ),
    );
  }
  figures.push(
    figure('fio.requests', 'FUSE requests the daemon answers, randread, plain', 'requests/s', requestRates),
  );
  return figures;
}

interface Served {
  readonly mountPoint: string;
  readonly server: ChildId;
}

async function served(
  ask: Ask,
  serve: { root: string; passthrough: 'auto' | 'off'; abi: 'backing-id' | 'fd' },
): Promise<Served> {
  const { path: mountPoint } = await ask('dir.make', { in: 'area', name: 'fio' });
  const { server } = await ask('server.start', {});
  // A server without extended attributes says so once. Ours has them, and would be asked for the file's
  // capabilities before each write.
  const rule = { match: { opcode: 'GETXATTR' }, action: { do: 'error', errno: 'ENOSYS' } };
  await ask('server.call', {
    ...{ server, method: 'server.mount' },
    params: { mountPoint, serve, rules: [rule] },
  });
  return { mountPoint, server };
}

/** How many requests this server has read since it was mounted. */
async function requestsSoFar(ask: Ask, server: ChildId): Promise<number> {
  // A query that no record fits: the number is asked for, not the log.
  const answer = await ask('server.call', {
    ...{ server, method: 'log.get' },
    params: { query: { after: Number.MAX_SAFE_INTEGER } },
  });
  return Requests.parse(answer).lastSeq;
}

interface Measured {
  /** Operations a second. */
  readonly iops: number;
  readonly seconds: number;
}

async function fio(ask: Ask, pattern: (typeof PATTERNS)[number], file: string): Promise<Measured> {
  const argv = [
    ...['fio', '--name=bench', `--filename=${file}`, `--rw=${pattern}`, '--bs=4k', '--size=16M'],
    ...[
      '--ioengine=psync',
      '--invalidate=0',
      `--runtime=${SECONDS}`,
      '--time_based',
      '--thread',
      '--output-format=json',
    ],
  ];
  const { code, stdout, stderr } = await ask('run', { argv, timeoutMs: CALL_MS * 6 });
  const text = Buffer.from(stdout).toString('utf8');
  const parsed = FioResult.safeParse(parseJson(text.slice(text.indexOf('{'))));
  if (code !== 0 || !parsed.success) {
    const said = Buffer.from(stderr).toString('utf8').trim().split('\n').at(-1) ?? '';
    throw new Failure('E_BENCH_FIO', 'infra', `fio ${pattern} ended with ${String(code)}: ${said}`);
  }
  const { read, write, job_runtime: runtimeMs } = parsed.data.jobs[0];
  return { iops: read.iops + write.iops, seconds: runtimeMs / 1000 };
}
