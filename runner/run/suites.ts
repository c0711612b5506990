import { globSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Emit } from '#runner/lib/events.ts';
import { Failure } from '#runner/lib/failure.ts';
import { exec } from '#runner/lib/exec.ts';
import { FILE_ORDER_ENV } from '#runner/ava/file-order.ts';
import { runAva } from '#runner/ava/run-ava.ts';
import { exactMatch } from '#runner/ava/test-id.ts';
import type { Selection } from '#runner/config/selection.ts';
import { LEASE_SOCKET_ENV } from '#runner/lease/messages.ts';
import { dealOut, estimate } from './deal-out.ts';
import type { TestLedger } from './test-ledger.ts';

export interface SuitesOptions {
  readonly projectDir: string;
  readonly selection: Selection;
  /** Test files that have machines at the same time. */
  readonly jobs: number;
  /** What a test file took the last time. Milliseconds; none: it never ran here. */
  readonly expectedMs: (file: string) => number | undefined;
  readonly out: string;
  readonly socketPath: string;
  readonly ledger: TestLedger;
  readonly emit: Emit;
  readonly signal: AbortSignal;
}

/**
 * Runs the selected tests. A test process that dies leaves the rest of its file not run: they get a pass of
 * their own, as long as each pass gets further than the one before.
 *
 * @throws Failure E_NO_TESTS (user) when nothing matches, E_AVA_FAILED (infra).
 */
export async function runSelectedTests(options: SuitesOptions): Promise<void> {
  const { ledger, selection, signal } = options;
  const shards = shardFiles(options);
  await allPasses(options, shards);
  if (ledger.size === 0 && !signal.aborted) throw noTests(selection);
  let before = Infinity;
  for (let rest = ledger.remaining(); rest.length > 0 && rest.length < before; rest = ledger.remaining()) {
    if (signal.aborted) return;
    before = rest.length;
    const file = rest[0]?.file ?? '';
    const titles = rest.filter((test) => test.file === file).map((test) => test.title);
    options.emit({
      type: 'note',
      text: `a test process died; running the ${titles.length} other tests of ${file} again`,
    });
    await pass(options, { files: [file], match: titles.map(exactMatch) });
  }
}

/**
 * Side by side. When one AVA is lost the others are ended, too, before anything else of the run is: what their
 * tests then say is about that.
 */
async function allPasses(options: SuitesOptions, shards: readonly Shard[]): Promise<void> {
  const oneLost = new AbortController();
  const signal = AbortSignal.any([options.signal, oneLost.signal]);
  const work = shards.map(async (shard) => {
    try {
      await pass({ ...options, signal }, shard);
    } catch (error) {
      if (error instanceof Error) options.ledger.close(error.message);
      oneLost.abort(error);
      throw error;
    }
  });
  await Promise.allSettled(work);
  await Promise.all(work);
}

async function pass(options: SuitesOptions, { files, match, order = [] }: Shard): Promise<void> {
  const { projectDir, out, socketPath, ledger, signal } = options;
  await runAva({
    projectDir,
    files,
    match,
    log: join(out, 'ava.log'),
    env: { [LEASE_SOCKET_ENV]: socketPath, [FILE_ORDER_ENV]: JSON.stringify(order) },
    onEvent: ledger.onAva,
    signal,
  });
}

interface Shard extends Selection {
  /** In which its files run. */
  readonly order?: readonly string[];
}

/**
 * The longest files first, so that none is left over when the other machines have nothing to do any more. One
 * machine: AVA finds the files itself. More: files are dealt out to as many AVAs and one, whose file is loaded while
 * the others have the machines; AVA's own concurrency would also run the tests of one file side by side and let them
 * queue for machines on AVA's clock.
 */
function shardFiles({ projectDir, selection, jobs, expectedMs }: SuitesOptions): readonly Shard[] {
  const files = estimate(
    filesOf(projectDir, selection).map((file) => {
      return { file, bytes: statSync(join(projectDir, file)).size, recordedMs: expectedMs(file) };
    }),
  );
  if (jobs === 1) return [{ ...selection, order: files.map(({ file }) => file) }];
  const dealt = dealOut(files, jobs + 1).map((share) => ({ ...selection, files: share, order: share }));
  return dealt.length === 0 ? [selection] : dealt;
}

/** Test files of a selection, relative to the project, by name. */
export function filesOf(projectDir: string, selection: Selection): readonly string[] {
  return globSync('suites/**/*.test.ts', { cwd: projectDir })
    .filter((file) => !file.startsWith('suites/lib/'))
    .filter((file) => selection.files.length === 0 || selection.files.some((part) => isBelow(file, part)))
    .toSorted();
}

/**
 * Before anything is built: whether any title matches. AVA finds out by running; here the files are loaded
 * and no more, which takes a second. What this cannot tell, AVA tells later.
 *
 * @throws Failure E_NO_TESTS (user).
 */
export async function refuseEmptySelection(
  projectDir: string,
  selection: Selection,
  signal: AbortSignal,
): Promise<void> {
  if (selection.match.length === 0) return;
  const files = filesOf(projectDir, selection).map((file) => join(projectDir, file));
  const count = join(import.meta.dirname, '..', 'ava', 'count-titles.ts');
  const args = [count, JSON.stringify(selection.match), ...files];
  const { exitCode, stdout } = await exec(process.execPath, args, { cwd: projectDir, signal });
  if (exitCode === 0 && stdout.trim() === '0') throw noTests(selection);
}

function isBelow(file: string, part: string): boolean {
  return file === part || file.startsWith(`${part}/`);
}

function noTests({ files, match }: Selection): Failure {
  const where = files.length === 0 ? 'suites' : files.join(', ');
  const what =
    match.length === 0 ? '' : ` matches ${match.map((title) => JSON.stringify(title)).join(' or ')}`;
  return new Failure('E_NO_TESTS', 'user', `no test in ${where}${what === '' ? '' : what}`, {
    hint: '--match takes a whole title, in which * stands for anything: --match "*append*"',
  });
}
