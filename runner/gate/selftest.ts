import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Config } from '#runner/config/config.ts';
import { formatDuration } from '#runner/report/format.ts';
import type { RunOptions } from '#runner/run/run.ts';
import { mismatches, seriesOf, type CatalogueEntry } from './catalogue.ts';
import type { GateTools } from './gate.ts';
import { recordingOf } from './recording.ts';
import { runGate } from './run-gate.ts';

export interface SelfTestResult {
  readonly entry: CatalogueEntry;
  readonly round: number;
  /** Empty: the right answer. */
  readonly wrong: readonly string[];
  readonly runs: number;
  readonly durationMs: number;
}

/** Real gates of the catalogue, one after the other, each with its recording; `onResult` after each. */
export async function selfTest(
  entries: readonly CatalogueEntry[],
  options: {
    readonly rounds: number;
    readonly useCache: boolean;
    readonly tools: GateTools;
    readonly configOf: (entry: CatalogueEntry, series: string) => Config;
    readonly run: Omit<RunOptions, 'config'>;
    readonly profileOf: (name: string) => Promise<RunOptions['profile']>;
    readonly onResult: (result: SelfTestResult) => void;
  },
): Promise<readonly SelfTestResult[]> {
  const results: SelfTestResult[] = [];
  for (let round = 1; round <= options.rounds; round += 1) {
    for (const entry of entries) {
      options.run.signal.throwIfAborted();
      const { series, against } = seriesOf(entry);
      const config = options.configOf(entry, series);
      const out = join(config.out, `${round}-${entry.name}`);
      const profile = await options.profileOf(entry.profile);
      const { useCache, tools } = options;
      const { report, exitCode, outcome } = await runGate(
        { ...options.run, profile, config: { ...config, out } },
        { useCache, tools, against },
      );
      options.run.signal.throwIfAborted();
      if (outcome !== undefined) {
        const recording = recordingOf(entry.name, outcome);
        await writeFile(join(out, 'recording.json'), `${JSON.stringify(recording, undefined, 2)}\n`);
      }
      const wrong =
        report.gate === null
          ? [report.failure?.message ?? 'no verdict']
          : mismatches(entry, report.gate, exitCode);
      const result = {
        entry,
        round,
        wrong,
        runs: report.gate?.steps.length ?? 0,
        durationMs: report.timings.totalMs,
      };
      results.push(result);
      options.onResult(result);
    }
  }
  return results;
}

/** A table for docs/gate-selftest.md. Pure. */
export function renderSelfTest(results: readonly SelfTestResult[]): string {
  const rows = results.map(({ entry, round, wrong, runs, durationMs }) => {
    const answer = wrong.length === 0 ? 'right' : `**wrong**: ${wrong.join('; ')}`;
    return `| ${entry.name} | ${round} | ${answer} | ${runs} | ${formatDuration(durationMs)} |`;
  });
  return [
    '| series | round | answer | runs of kernels | time |',
    '| --- | --- | --- | --- | --- |',
    ...rows,
    '',
  ].join('\n');
}
