import { loadProfile } from '#kernel/profile.ts';
import { configOf } from '#runner/cli/options.ts';
import { realParts } from '#runner/cli/real-parts.ts';
import { signalProcess } from '#runner/lib/process-table.ts';
import { guardRun } from '#runner/lib/reaper.ts';
import { RUN_LABEL } from '#runner/lib/run-record.ts';
import { comparable } from '#runner/report/comparable.ts';
import type { MachineStates } from '#runner/run/parts.ts';
import { run } from '#runner/run/run.ts';
import { machineStates } from '#runner/state/machine-states.ts';
import type { End, Fault, Field, Moment } from './faults.ts';
import { makeProject, suiteText } from './fixture.ts';
import type { Tried } from './render.ts';
import { trial } from './trial.ts';
import { findVictims, type Role } from './victims.ts';

const THREE = { tests: 3, nth: 2 };

/** Never rejects. What was seen is told also when looking at it, or undoing the fault, breaks. */
export async function tryFault(fault: Fault, field: Field): Promise<Tried> {
  const { inGuest, inGuestBefore, file = THREE } = fault;
  const dir = field.arena.path('fixture');
  return trial(fault, field, async () => {
    let seen = 'nothing';
    const wrong: string[] = [];
    try {
      const text = suiteText(file.tests, file.nth, inGuest, inGuestBefore);
      await using _project = await makeProject(dir, { fault: text });
      await using undo = new AsyncDisposableStack();
      await fault.before?.(field, undo);
      const end = await runFixture(field, dir, fault);
      seen = `${end.outcomes}; exit ${end.exitCode}`;
      if (!(await fault.holds(end))) wrong.push(`not as expected: ${wordsOf(end)}`);
    } catch (error) {
      wrong.push(`the trial itself broke: ${String(error)}`);
    }
    return { seen, wrong };
  });
}

function wordsOf({ report }: End): string {
  const { tests, notes, failure } = report;
  return JSON.stringify([tests, notes, failure, comparable(report).faults]);
}

/** One run of the suites in `dir`, in this process. */
export async function runFixture(
  { arena, profile: profileName, bundle }: Field,
  dir: string,
  { options, kill }: Pick<Fault, 'options' | 'kill'> = {},
): Promise<End> {
  await using guard = await guardRun();
  let fired = false;
  const at = (moment: Moment): void => {
    if (fired || kill?.when(moment) !== true) return;
    fired = true;
    void signalRole(guard.id, kill.role, kill.signal ?? 'SIGKILL');
  };
  const out = arena.path('fault');
  const { report, exitCode } = await run({
    config: configOf({ profile: profileName, accel: 'tcg', jobs: '1', out, ...options }),
    profile: await loadProfile(profileName),
    parts: { ...realParts, bundleDaemon: () => Promise.resolve(bundle), states: overheard(at) },
    projectDir: dir,
    sinks: [at],
    signal: new AbortController().signal,
  });
  return { report, exitCode, outcomes: report.tests.map(({ outcome }) => outcome).join(', '), out };
}

/** Saved machines as they are; what their copies' agents are asked is told first. */
function overheard(at: (moment: Moment) => void): MachineStates {
  return {
    ...machineStates,
    restore: async (saved, request, context) => {
      const guest = await machineStates.restore(saved, request, context);
      const asked = new Map<string, number>();
      return {
        ...guest,
        call: (method, params, options) => {
          const nth = (asked.get(method) ?? 0) + 1;
          asked.set(method, nth);
          at({ type: 'call', machine: request.name, method, nth });
          return guest.call(method, params, options);
        },
      };
    },
  };
}

/** As soon as there is one. */
async function signalRole(run: string, role: Role, signal: NodeJS.Signals): Promise<void> {
  const until = performance.now() + 10_000;
  while (performance.now() < until) {
    const victim = (await findVictims(RUN_LABEL, run)).findLast((each) => each.role === role);
    if (victim !== undefined && (await signalProcess(victim.identity, signal))) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
