import { mkdir, readdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { Failure } from '#runner/lib/failure.ts';
import type { Report } from '#runner/report/report.ts';

/**
 * Makes the directory of a run's results and points `latest` at it. Results of an earlier run in the same
 * directory are removed, so that nothing old can be taken for new; anything else in it stays.
 *
 * @throws Failure E_OUT_UNWRITABLE (user).
 */
export async function openRunDirectory(out: string, latest: string | null): Promise<void> {
  try {
    await makeDirectory(out);
    await removeOldResults(out);
    await writeFile(join(out, MARK), '');
    if (latest !== null) await pointAt(latest, out);
  } catch (error) {
    throw new Failure('E_OUT_UNWRITABLE', 'user', `cannot write results to ${out}: ${reason(error)}`, {
      hint: 'choose another directory with --out DIR',
      cause: error,
    });
  }
}

/** An empty file that says that a directory is ours, so that what is in it may be removed. */
const MARK = '.fusegate';

/** Everything that a run writes into its directory. */
const RESULTS =
  /^(?:report\.json(?:\.\d+\.tmp)?|tests|daemon|worktree.*|machine-\d+|kernels|pass-\d+|gate\.txt|[\w-]+\.log)$/;

/** @throws Error when the directory holds a user's own files under the names of results. */
async function removeOldResults(out: string): Promise<void> {
  const names = await readdir(out);
  const results = names.filter((name) => RESULTS.test(name));
  if (results.length === 0) return;
  if (!names.includes(MARK) && !(await isReport(join(out, 'report.json')))) {
    throw new Error(`it holds ${results.slice(0, 3).join(', ')}, which no run of fusegate put there`);
  }
  for (const name of results) await rm(join(out, name), { recursive: true, force: true });
}

async function isReport(path: string): Promise<boolean> {
  const text = await readFile(path, 'utf8').catch(() => '');
  return /^\{\s*"schema": 1,\s*"verdict":/.test(text);
}

/** Replaces the report in one step: a reader sees the old one or the new one, never half of one. */
export async function writeReport(out: string, report: Report): Promise<string> {
  const path = join(out, 'report.json');
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    await writeFile(temporary, `${JSON.stringify(report, undefined, 2)}\n`);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw new Failure('E_REPORT_UNWRITABLE', 'infra', `cannot write ${path}: ${reason(error)}`, {
      hint: 'is the disk full?',
      cause: error,
    });
  }
  return path;
}

/** As `mkdir -p`. Node's own never comes back where the parent is there and refuses with ENOENT (/proc). */
async function makeDirectory(dir: string): Promise<void> {
  const found = await stat(dir).catch(() => undefined);
  if (found?.isDirectory() === true) return;
  if (found !== undefined) throw new Error(`${dir} is not a directory`);
  if (dirname(dir) !== dir) await makeDirectory(dirname(dir));
  await mkdir(dir);
}

async function pointAt(link: string, target: string): Promise<void> {
  const temporary = join(dirname(link), `.${basename(link)}.${process.pid}.tmp`);
  await rm(temporary, { force: true });
  await symlink(relative(dirname(link), target), temporary);
  await rename(temporary, link);
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : 'unknown reason';
}
