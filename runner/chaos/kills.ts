import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { projectRoot } from '#runner/lib/paths.ts';
import { signalProcess } from '#runner/lib/process-table.ts';
import { sweepDeadRuns } from '#runner/lib/reaper.ts';
import { loadReport } from '#runner/report/load-report.ts';
import { CHAOS_LABEL, type Arena } from './arena.ts';
import { complaints } from './judge.ts';
import { oneOf } from './random.ts';
import { findVictims, type Role, type Victim } from './victims.ts';

export interface Shelling {
  readonly arena: Arena;
  readonly random: () => number;
  readonly profile: string;
  readonly suites: readonly string[];
  /** Tests in them. */
  readonly expected: number;
  /** No more kills than that in this run. */
  readonly kills: number;
  readonly nth: number;
}

export interface Shelled {
  readonly how: string;
  readonly killed: readonly Role[];
  /** How the run ended: `pass`, `inconclusive`, `killed`, `no report`. */
  readonly end: string;
  readonly wrong: readonly string[];
}

/** One run of the program itself, while its processes are killed one after the other. */
export async function shell(options: Shelling): Promise<Shelled> {
  const { arena, random, nth } = options;
  const label = `${process.pid}-${nth}`;
  const out = arena.path(`out-${nth}`);
  const how = modeOf(random);
  if (how === 'saves') await arena.forgetStates();
  const jobs = random() < 0.5 ? '1' : '2';
  const args = ['run', '--profile', options.profile, '--accel', 'tcg', '--jobs', jobs, '--out', out];
  const suites = options.suites.flatMap((suite) => ['--suite', suite]);
  const cold = how === 'boots' ? ['--cold'] : [];
  const child = spawn(
    process.execPath,
    [join(projectRoot, 'runner/cli/fusegate.js'), ...args, ...suites, ...cold],
    {
      cwd: projectRoot,
      env: { ...process.env, [CHAOS_LABEL]: label },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    },
  );
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8');
    stream.on('data', (text: string) => {
      output = (output + text).slice(-100_000);
    });
  }
  const over = new AbortController();
  const closed = once(child, 'close').finally(() => over.abort());
  const killed = await fire(options, label, over.signal);
  const [exitCode] = (await closed) as [number | null];
  // Whoever lost its reaper as well is cleaned up after by the next run.
  if (killed.includes('runner') && killed.includes('reaper')) await sweepDeadRuns(() => undefined);
  const report = await loadReport(out).catch(() => undefined);
  const ended = {
    exitCode,
    output,
    report,
    killed,
    marked: await markedTests(out),
    expected: options.expected,
  };
  const wrong = [...complaints(ended), ...(await arena.leftovers(label)).map((left) => `left: ${left}`)];
  if (wrong.length === 0) await rm(out, { recursive: true, force: true });
  const end = exitCode === null ? 'killed' : (report?.verdict ?? 'no report');
  return { how: `${how}, --jobs ${jobs}`, killed, end, wrong };
}

function modeOf(random: () => number): 'restores' | 'saves' | 'boots' {
  const drawn = random();
  return drawn < 0.1 ? 'saves' : drawn < 0.2 ? 'boots' : 'restores';
}

async function fire({ random, kills }: Shelling, label: string, over: AbortSignal): Promise<readonly Role[]> {
  const killed: Role[] = [];
  let nextMs = 100 + random() * 4000;
  while (killed.length < kills) {
    await pause(nextMs, over);
    if (over.aborted) break;
    const victim = choose(random, await findVictims(CHAOS_LABEL, label));
    if (victim !== undefined && (await signalProcess(victim.identity, 'SIGKILL'))) killed.push(victim.role);
    if (victim?.role === 'runner') break;
    nextMs = 100 + random() * 1500;
  }
  return killed;
}

/** Each role as often as the others, and the runner, after which nothing more can happen, less often. */
function choose(random: () => number, victims: readonly Victim[]): Victim | undefined {
  const roles = [...new Set(victims.map(({ role }) => role))].sort();
  const likely = random() < 0.25 ? roles : roles.filter((role) => role !== 'runner');
  const role = oneOf(random, likely);
  return oneOf(
    random,
    victims.filter((victim) => victim.role === role),
  );
}

async function pause(afterMs: number, over: AbortSignal): Promise<void> {
  if (over.aborted) return;
  const { promise, resolve } = Promise.withResolvers<undefined>();
  const wake = (): void => resolve(undefined);
  const timer = setTimeout(wake, afterMs);
  over.addEventListener('abort', wake, { once: true });
  await promise;
  clearTimeout(timer);
  over.removeEventListener('abort', wake);
}

/** The daemon has the kernel print the id of a test when it gets its machine. */
async function markedTests(out: string): Promise<ReadonlySet<string>> {
  const marked = new Set<string>();
  for (const name of await readdir(out).catch(() => [])) {
    if (!name.startsWith('machine-')) continue;
    const text = await readFile(join(out, name, 'console.log'), 'utf8').catch(() => '');
    for (const [, id] of text.matchAll(/fusegate: ([\w-]+\/[\w/-]+: .+?)\r?$/gm)) marked.add(id ?? '');
  }
  return marked;
}
