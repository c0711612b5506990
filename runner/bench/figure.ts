import type { Accelerator } from '#runner/machine/machine.ts';
import type { Spread } from './spread.ts';
import { spreadOf } from './spread.ts';

export type Unit =
  's' | 'times' | '%' | 'ms' | 'MB' | 'tests/s' | 'tests' | 'kIOPS' | 'requests/s' | 'processors';

/** What a figure shall be. Held against the median, because the extremes are the machine's doing. */
export interface Target {
  readonly bound: 'at most' | 'at least';
  readonly value: number;
}

export interface Figure {
  /** Stable, for scripts: `boot.ours`. */
  readonly id: string;
  readonly title: string;
  readonly unit: Unit;
  /** One per round, in order. */
  readonly samples: readonly number[];
  readonly spread: Spread;
  /** `null`: told for itself, nothing is promised. */
  readonly target: Target | null;
  /** `null` without a target. */
  readonly met: boolean | null;
}

/** Why a part has no figures. */
export interface NotMeasured {
  readonly code: string;
  readonly reason: string;
  readonly hint: string | null;
}

/** One thing that was measured, on both sides where there are two. */
export interface Part {
  readonly name: PartName;
  readonly title: string;
  /** How it was measured, in a sentence or two. */
  readonly method: string;
  readonly figures: readonly Figure[];
  readonly notMeasured: NotMeasured | null;
}

export const partNames = ['boot', 'machine', 'fio', 'build', 'run', 'gate', 'report'] as const;
export type PartName = (typeof partNames)[number];

/** `bench.json`. */
export interface BenchResult {
  readonly schema: 1;
  /** ISO 8601, UTC. */
  readonly startedAt: string;
  readonly profile: string;
  /** `null` when no kernel was prepared. */
  readonly kernel: { readonly release: string; readonly imageSha256: string } | null;
  readonly accelerator: Accelerator | null;
  readonly host: Host;
  readonly parts: readonly Part[];
}

export interface Host {
  readonly cpus: number;
  readonly cpuModel: string;
  readonly memoryMib: number;
  readonly release: string;
  /** Load averages of the last minute: well above `cpus` means that the machine did other things as well. */
  readonly loadBefore: number;
  readonly loadAfter: number;
}

export function atMost(value: number): Target {
  return { bound: 'at most', value };
}

export function atLeast(value: number): Target {
  return { bound: 'at least', value };
}

/** @throws TypeError without samples: who has none says why instead of making a figure. */
export function figure(
  id: string,
  title: string,
  unit: Unit,
  samples: readonly number[],
  target: Target | null = null,
): Figure {
  const spread = spreadOf(samples);
  if (spread === undefined) throw new TypeError(`no samples for ${id}`);
  return { id, title, unit, samples, spread, target, met: target === null ? null : meets(spread, target) };
}

function meets({ median }: Spread, { bound, value }: Target): boolean {
  return bound === 'at most' ? median <= value : median >= value;
}
