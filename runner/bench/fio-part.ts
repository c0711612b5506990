import { z } from 'zod';
import { Failure } from '#runner/lib/failure.ts';
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
const FioResult = z.object({ jobs: z.tuple([z.object({ read: Side, write: Side })]) });

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
  const directories: Readonly<Record<Way, string>> = { native: root, passthrough, plain };
  const figures: Figure[] = [];
  for (const pattern of PATTERNS) {
    const rates: Record<Way, number[]> = { native: [], passthrough: [], plain: [] };
    for (let round = 0; round < rounds; round++) {
      // Another one begins each round: what one leaves in the page cache is not always to the same one's good.
      for (let turn = 0; turn < WAYS.length; turn++) {
        const way = WAYS[(round + turn) % WAYS.length] ?? 'native';
        rates[way].push((await fio(ask, pattern, `${directories[way]}/${way}`)) / 1000);
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
  return figures;
}

async function served(
  ask: Ask,
  serve: { root: string; passthrough: 'auto' | 'off'; abi: 'backing-id' | 'fd' },
): Promise<string> {
  const { path: mountPoint } = await ask('dir.make', { in: 'area', name: 'fio' });
  const { server } = await ask('server.start', {});
  // A server without extended attributes says so once. Ours has them, and would be asked for the file's
  // capabilities before each write.
  const rule = { match: { opcode: 'GETXATTR' }, action: { do: 'error', errno: 'ENOSYS' } };
  await ask('server.call', {
    ...{ server, method: 'server.mount' },
    params: { mountPoint, serve, rules: [rule] },
  });
  return mountPoint;
}

/** Operations a second. */
async function fio(ask: Ask, pattern: (typeof PATTERNS)[number], file: string): Promise<number> {
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
  const { read, write } = parsed.data.jobs[0];
  return read.iops + write.iops;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
