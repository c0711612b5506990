import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { passingProfiles } from '#kernel/profile.ts';
import { exec } from '#runner/lib/exec.ts';
import { Failure } from '#runner/lib/failure.ts';
import { projectRoot } from '#runner/lib/paths.ts';
import { loadReport } from '#runner/report/load-report.ts';
import { asProgram } from './as-program.ts';
import { isClean, renderStability, type StabilityRun } from './stability-table.ts';

/**
 * `make stability RUNS=10`: everything again and again on unmodified kernels, until it was clean so often or was
 * not clean once. `PROFILE` names one; else each that should pass takes its turn. What came of it is a table on
 * standard output and in out/stability/stability.md.
 */
async function stability(signal: AbortSignal): Promise<boolean> {
  const wanted = Number(process.env['RUNS'] ?? '10');
  if (!Number.isInteger(wanted) || wanted < 1) {
    throw new Failure('E_USAGE', 'user', `RUNS=${process.env['RUNS'] ?? ''} is not a number of runs`);
  }
  const named = process.env['PROFILE'] ?? '';
  const profiles = named === '' || named === 'all' ? await passingProfiles() : [named];
  const out = join(projectRoot, 'out', 'stability');
  await mkdir(out, { recursive: true });
  const runs: StabilityRun[] = [];
  for (let nth = 1; nth <= wanted; nth++) {
    for (const profile of profiles) {
      process.stderr.write(`run ${nth} of ${wanted}: ${profile}\n`);
      const run = await once(nth, profile, join(out, `${nth}-${profile}`), signal);
      runs.push(run);
      await writeFile(join(out, 'stability.md'), renderStability(runs));
      if (isClean(run)) continue;
      process.stdout.write(renderStability(runs));
      return false;
    }
  }
  process.stdout.write(renderStability(runs));
  return true;
}

async function once(nth: number, profile: string, out: string, signal: AbortSignal): Promise<StabilityRun> {
  const program = join(projectRoot, 'runner', 'cli', 'fusegate.js');
  const { exitCode } = await exec(process.execPath, [program, 'run', '--profile', profile, '--out', out], {
    cwd: projectRoot,
    signal,
  });
  return { nth, profile, exitCode, report: await loadReport(out).catch(() => null) };
}

await asProgram(stability);
