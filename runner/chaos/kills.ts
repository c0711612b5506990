import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { signalProcess } from '#runner/lib/process-table.ts';
import { sweepDeadRuns } from '#runner/lib/reaper.ts';
import { loadReport } from '#runner/report/load-report.ts';
import { CHAOS_LABEL, type Arena } from './arena.ts';
import { complaints } from './judge.ts';
import { phaseOf, startProgram, type Phase, type Program } from './program.ts';
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
  readonly hits: readonly Hit[];
  /** How the run ended: `pass`, `inconclusive`, `killed`, `no report`. */
  readonly end: string;
  readonly wrong: readonly string[];
}

/** A process that was killed, and how far the run had come. */
export interface Hit {
  readonly role: Role;
  readonly phase: Phase;
  /** Since the start of the run. */
  readonly atMs: number;
}

/** Of one run: more would all be the same, since little is left to be killed. */
const MAX_KILLS = 4;

/** How often it is looked how far the run has come. Milliseconds. */
const LOOK_MS = 50;

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
  const program = startProgram([...args, ...suites, ...cold], label);
  const hits = await fire(options, label, program);
  const exitCode = await program.ended;
  const killed = hits.map(({ role }) => role);
  // Whoever lost its reaper as well is cleaned up after by the next run.
  if (killed.includes('runner') && killed.includes('reaper')) await sweepDeadRuns(() => undefined);
  const report = await loadReport(out).catch(() => undefined);
  const ended = {
    exitCode,
    output: program.output(),
    report,
    killed,
    marked: await markedTests(out),
    expected: options.expected,
  };
  const wrong = [...complaints(ended), ...(await arena.leftovers(label)).map((left) => `left: ${left}`)];
  if (wrong.length === 0) await rm(out, { recursive: true, force: true });
  const end = exitCode === null ? 'killed' : (report?.verdict ?? 'no report');
  return { how: `${how}, --jobs ${jobs}`, hits, end, wrong };
}

function modeOf(random: () => number): 'restores' | 'saves' | 'boots' {
  const drawn = random();
  return drawn < 0.1 ? 'saves' : drawn < 0.2 ? 'boots' : 'restores';
}

/** The first at any moment, more often than not while the tests run, the further ones soon after. */
async function fire(
  { random, kills }: Shelling,
  label: string,
  { output, over }: Program,
): Promise<readonly Hit[]> {
  const startedAt = performance.now();
  const hits: Hit[] = [];
  const wanted = Math.min(kills, 1 + Math.floor(random() * MAX_KILLS));
  const phases: readonly Phase[] = random() < 0.6 ? ['tests', 'end'] : ['start'];
  while (wanted > 0 && !phases.includes(phaseOf(output())) && !over.aborted) await pause(LOOK_MS, over);
  let nextMs = 50 + random() * 4000;
  while (hits.length < wanted) {
    await pause(nextMs, over);
    if (over.aborted) break;
    const victim = choose(random, await findVictims(CHAOS_LABEL, label));
    const phase = phaseOf(output());
    if (victim !== undefined && (await signalProcess(victim.identity, 'SIGKILL')))
      hits.push({ role: victim.role, phase, atMs: Math.round(performance.now() - startedAt) });
    if (victim?.role === 'runner') break;
    nextMs = 50 + random() * 1000;
  }
  return hits;
}

/**
 * Each role as often as the others, but less often the runner, after which nothing more can happen, and its reaper,
 * which is there all the time and without which nothing happens.
 */
function choose(random: () => number, victims: readonly Victim[]): Victim | undefined {
  const roles = [...new Set(victims.map(({ role }) => role))].sort();
  const likely = random() < 0.25 ? roles : roles.filter((role) => role !== 'runner' && role !== 'reaper');
  const role = oneOf(random, likely.length === 0 ? roles : likely);
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
