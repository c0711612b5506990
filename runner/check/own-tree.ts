import { cp, glob, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadProfile } from '#kernel/profile.ts';
import { resolveSource } from '#kernel/source/resolve-source.ts';
import { makeOwnSeries, OWN_SERIES_NOTE } from '#kernel/testdata/own-series.ts';
import { exec, execOrFail } from '#runner/lib/exec.ts';
import { Failure } from '#runner/lib/failure.ts';
import { projectRoot } from '#runner/lib/paths.ts';
import { asProgram } from './as-program.ts';

/**
 * `make check-tree`: what a user does who has a kernel tree and a series, from end to end. Debian's 6.12 as a git
 * tree, three patches as an mbox, a kernel of both, a machine, one area of the suites. 20 minutes on two cores.
 */
async function checkOwnTree(signal: AbortSignal): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), 'fusegate-own-tree-'));
  try {
    const [tree, mbox, out] = [join(dir, 'linux'), join(dir, 'v2.mbox'), join(dir, 'out')];
    const source = await resolveSource(
      { profile: await loadProfile('mainline-6.12') },
      { signal, emit: () => undefined },
    );
    say(`a git tree of ${source.label}`);
    await cp(source.dir, tree, { recursive: true, verbatimSymlinks: true });
    const { base } = await makeOwnSeries(tree, mbox);
    const stateOf = async (): Promise<string> =>
      (await execOrFail('git', ['-C', tree, 'status', '--porcelain', '--ignored', '--branch'])).stdout;
    const before = await stateOf();
    await run(['--tree', tree, '--series', mbox, '--out', out], signal);
    const head = (await execOrFail('git', ['-C', tree, 'rev-parse', 'HEAD'])).stdout.trim();
    if (head !== base || (await stateOf()) !== before) throw wrong('the tree is not as it was');
    await mustSay(out, OWN_SERIES_NOTE);
    say('passed: built and run from the tree and the series, and the tree is as it was');
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

async function run(args: readonly string[], signal: AbortSignal): Promise<void> {
  const program = join(projectRoot, 'runner', 'cli', 'fusegate.js');
  const all = ['run', '--profile', 'mainline-6.12', '--suite', 'release-teardown', ...args];
  const { exitCode } = await exec(process.execPath, [program, ...all], { signal, onLine: say });
  if (exitCode !== 0) throw wrong(`fusegate run ended with ${exitCode ?? 'a signal'}`);
}

/** On the console, which has it from the kernel itself. */
async function mustSay(out: string, words: string): Promise<void> {
  for await (const log of glob('machine-*/console.log', { cwd: out })) {
    if ((await readFile(join(out, log), 'utf8')).includes(words)) return;
  }
  throw wrong(`the kernel never said "${words}": it is another one`);
}

function wrong(message: string): Failure {
  return new Failure('E_CHECK_FAILED', 'kernel', message);
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

await asProgram(async (signal) => {
  await checkOwnTree(signal);
  return true;
});
