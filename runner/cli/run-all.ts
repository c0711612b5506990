import { join } from 'node:path';
import { passingProfiles } from '#kernel/profile.ts';
import type { Config } from '#runner/config/config.ts';
import { ALL_PROFILES } from '#runner/config/config.ts';
import { ExitCode, Failure } from '#runner/lib/failure.ts';
import { joinReports } from '#runner/report/join-reports.ts';
import type { Report } from '#runner/report/report.ts';
import { rerunCommand } from '#runner/report/rerun.ts';
import { closingLine } from '#runner/report/render-text.ts';
import { openRunDirectory, writeReport } from '#runner/run/run-directory.ts';

/** One run, of one profile. */
export type RunOne = (config: Config) => Promise<{ readonly report: Report; readonly exitCode: ExitCode }>;

/** What is told of several runs in one code: an interrupt, then what a kernel did, then what kept us from seeing it. */
const WORST_FIRST = [
  ExitCode.interrupted,
  ExitCode.kernelFailed,
  ExitCode.build,
  ExitCode.infrastructure,
  ExitCode.usage,
];

/**
 * `--profile all`: one profile after the other, each with results of its own below those of the whole, which
 * has one report and one closing line. @throws Failure E_USAGE
 */
export async function runAll(
  config: Config,
  runOne: RunOne,
  write: (text: string) => void,
): Promise<ExitCode> {
  refuseOneKernel(config);
  await openRunDirectory(config.out, config.latest);
  const reports: Report[] = [];
  const codes: ExitCode[] = [];
  for (const profile of await passingProfiles()) {
    const { report, exitCode } = await runOne({
      ...config,
      profile,
      out: join(config.out, profile),
      latest: null,
    });
    reports.push(report);
    codes.push(exitCode);
    if (exitCode === ExitCode.interrupted) break;
  }
  const joined = joinReports(reports, { profile: ALL_PROFILES, rerun: rerunCommand(config) });
  const path = await writeReport(config.out, joined);
  const each = reports.map((report) => `${report.profile}: ${report.verdict}, ${closingLine(report)}\n`);
  write(`\n${each.join('')}report: ${path}\n${closingLine(joined)}\n`);
  return WORST_FIRST.find((code) => codes.includes(code)) ?? ExitCode.passed;
}

function refuseOneKernel({ series, tree, kernel }: Config): void {
  const given = Object.entries({ series, tree, kernel }).find(([, value]) => value !== null);
  if (given === undefined) return;
  throw new Failure('E_USAGE', 'user', `--${given[0]} belongs to one kernel, --profile all to several`, {
    hint: 'name the profile that it is for',
  });
}
