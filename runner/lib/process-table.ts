import { readdir, readFile } from 'node:fs/promises';

/** A process that cannot be confused with a later one of the same number. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks since boot at which it started (proc(5), stat field 22). */
  readonly startTime: string;
}

interface ProcessStat extends ProcessIdentity {
  readonly state: string;
  readonly group: number;
}

/** `undefined` when there is no such process, or only its remains (a zombie). */
export async function identifyProcess(pid: number): Promise<ProcessIdentity | undefined> {
  const stat = await readStat(pid);
  return stat === undefined || isDead(stat) ? undefined : { pid: stat.pid, startTime: stat.startTime };
}

export async function isRunning(identity: ProcessIdentity): Promise<boolean> {
  return (await identifyProcess(identity.pid))?.startTime === identity.startTime;
}

/** Processes of a group that still run, zombies left out. */
export async function groupMembers(group: number): Promise<readonly ProcessIdentity[]> {
  return (await allProcesses()).filter((process) => process.group === group && !isDead(process));
}

/** Processes that were started with `name=value` in their environment, as far as we may look. */
export async function processesLabelled(name: string, value: string): Promise<readonly ProcessIdentity[]> {
  const label = `${name}=${value}`;
  const found: ProcessIdentity[] = [];
  for (const process of await allProcesses()) {
    if (isDead(process)) continue;
    const environment = await readFile(`/proc/${process.pid}/environ`, 'utf8').catch(() => '');
    if (environment.split('\0').includes(label)) found.push(process);
  }
  return found;
}

/** The words of its command line; none when it is gone or a thread of the kernel. */
export async function commandLineOf(pid: number): Promise<readonly string[]> {
  const text = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
  return text.split('\0').slice(0, -1);
}

/** Signals a process unless its number has passed to another one. False when it is gone. */
export async function signalProcess(identity: ProcessIdentity, signal: NodeJS.Signals): Promise<boolean> {
  return (await isRunning(identity)) && sendSignal(identity.pid, signal);
}

/** Signals every process of a group that has members; a group's number stays taken as long as it has any. */
export function signalGroup(group: number, signal: NodeJS.Signals): boolean {
  return sendSignal(-group, signal);
}

function sendSignal(target: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(target, signal);
  } catch {
    return false;
  }
}

async function allProcesses(): Promise<readonly ProcessStat[]> {
  const names = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const stats = await Promise.all(names.map(async (name) => readStat(Number(name))));
  return stats.filter((stat) => stat !== undefined);
}

async function readStat(pid: number): Promise<ProcessStat | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  return text === undefined ? undefined : parseStat(text);
}

/** proc(5): `pid (command) state ppid group …`; the command may contain blanks and parentheses. */
export function parseStat(text: string): ProcessStat | undefined {
  const end = text.lastIndexOf(')');
  const pid = Number.parseInt(text, 10);
  const fields = text
    .slice(end + 1)
    .trim()
    .split(' ');
  const [state, , group] = fields;
  const startTime = fields[19];
  if (end < 0 || state === undefined || group === undefined || startTime === undefined) return undefined;
  return { pid, state, group: Number(group), startTime };
}

function isDead({ state }: ProcessStat): boolean {
  return state === 'Z' || state === 'X';
}
