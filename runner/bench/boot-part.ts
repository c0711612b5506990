import type { PartContext } from '#runner/run/parts.ts';
import type { StartOptions } from '#runner/run/start-guest.ts';
import { bootAndDeploy } from '#runner/run/start-guest.ts';
import type { Figure } from './figure.ts';
import { atLeast, atMost, figure } from './figure.ts';
import { pairedRatios } from './spread.ts';
import { StockVng } from './stock-vng.ts';

/**
 * Start to daemon answering, against start to first SSH command, in turn.
 * @throws Failure of either side.
 */
export async function measureBoot(
  start: StartOptions,
  scratch: string,
  rounds: number,
  context: PartContext,
): Promise<readonly Figure[]> {
  const { kernel, accelerator } = start.prepared;
  const stock = await StockVng.prepare({ kernel, accelerator, out: start.out, scratch }, context);
  // Only this one goes through virtme-ng, which leaves nothing to ask for the others.
  const first = await bootOurs(start, 0, context);
  const ours: number[] = [];
  const theirs: number[] = [];
  for (let round = 1; round <= rounds; round++) {
    const turns = [
      async () => ours.push(await bootOurs(start, round, context)),
      async () => theirs.push(await stock.boot(round, context.signal)),
    ];
    // Who goes first changes, so that neither side always finds the other's files in the page cache.
    for (const turn of round % 2 === 1 ? turns : turns.toReversed()) await turn();
    const [mine, other] = [ours.at(-1) ?? 0, theirs.at(-1) ?? 0];
    const text = `boot, round ${round} of ${rounds}: ${mine.toFixed(1)} s, stock ${other.toFixed(1)} s`;
    context.emit({ type: 'note', text });
  }
  return [
    figure('boot.first', 'the first one, by virtme-ng', 's', [first]),
    figure('boot.ours', 'start to daemon answering', 's', ours, atMost(4.5)),
    figure('boot.stock', 'stock vng to its first SSH command done', 's', theirs),
    figure('boot.speedup', 'stock / ours', 'times', pairedRatios(theirs, ours), atLeast(4.5)),
  ];
}

/** Seconds. Taking the machine down is not counted on either side. */
async function bootOurs(start: StartOptions, round: number, context: PartContext): Promise<number> {
  await using stack = new AsyncDisposableStack();
  const startedAt = performance.now();
  await bootAndDeploy(start, `ours-${round}`, { ...context, emit: () => undefined }, stack);
  return (performance.now() - startedAt) / 1000;
}
