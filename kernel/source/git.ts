import { exec, type ExecResult } from '#runner/lib/exec.ts';
import { Failure } from '#runner/lib/failure.ts';

/**
 * git for repositories that are not ours: it takes no optional lock (so not even the index is refreshed),
 * runs no hook and no file system monitor of the repository, and does not mind who owns it.
 */
export async function git(
  repository: string,
  args: readonly string[],
  options: { readonly signal: AbortSignal; readonly input?: string | Uint8Array },
): Promise<ExecResult> {
  return exec('env', [...withoutGitVariables, 'git', ...neutral, '-C', repository, ...args], {
    signal: options.signal,
    env: { LC_ALL: 'C', GIT_OPTIONAL_LOCKS: '0', GIT_TERMINAL_PROMPT: '0', GIT_NO_LAZY_FETCH: '1' },
    ...(options.input === undefined ? {} : { input: options.input }),
  });
}

/** Set by git hooks and some editors; they would send us to another repository than the one we name. */
export const withoutGitVariables = [
  'GIT_DIR',
  'GIT_WORK_TREE',
  'GIT_INDEX_FILE',
  'GIT_OBJECT_DIRECTORY',
  'GIT_PREFIX',
].flatMap((name) => ['-u', name]);

const neutral = [
  'safe.directory=*',
  'core.fsmonitor=false',
  'core.hooksPath=/dev/null',
  'core.quotePath=false',
  'core.attributesFile=/dev/null',
].flatMap((setting) => ['-c', setting]);

export async function isGitTree(dir: string, signal: AbortSignal): Promise<boolean> {
  const result = await git(dir, ['rev-parse', '--show-prefix'], { signal });
  // A kernel tree in a subdirectory of somebody's repository is a plain directory to us.
  return result.exitCode === 0 && result.stdout.trim() === '';
}

/** The object name of `expression`, such as `v6.12^{tree}`. @throws Failure E_GIT_REF (user). */
export async function resolveObject(
  repository: string,
  expression: string,
  signal: AbortSignal,
): Promise<string> {
  const result = await git(repository, ['rev-parse', '--verify', '--quiet', '--end-of-options', expression], {
    signal,
  });
  if (result.exitCode === 0) return result.stdout.trim();
  const name = expression.replace(/\^\{\w+\}$/u, '');
  throw new Failure('E_GIT_REF', 'user', `${repository} has no commit ${JSON.stringify(name)}`, {
    hint: `\`git -C ${repository} log -1 ${name}\` must work`,
  });
}
