import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** Wait channels of threads that have nothing to do. */
const IDLE = /^(futex_|ep_poll|do_epoll|0$)/;
/** States of a thread that sleeps, proc_pid_status(5). */
const WAITING = /^[SD]$/;

/** State, wait channel and kernel stack of the threads of a process that wait for something in the kernel. */
export function describeProcess(pid: number): string {
  return describe(pid, () => true);
}

/**
 * The same of those threads only that still wait when their stack has been read: that of one which was woken
 * meanwhile names the functions it came by.
 */
export function whereItWaits(pid: number): string {
  return describe(pid, (thread) => WAITING.test(stateOf(`${pid}/task/${thread}`)));
}

/** `counts` is asked when the stack of the thread has been read. */
function describe(pid: number, counts: (thread: string) => boolean): string {
  const head = `process ${pid} ${readOr(`/proc/${pid}/comm`)} ${stateOf(pid)}`;
  const threads = threadsOf(pid).flatMap((thread) => {
    const lines = describeThread(pid, thread);
    return counts(thread) ? lines : [];
  });
  return [head, ...threads].join('\n');
}

/** Nothing of one that has nothing to do. */
function describeThread(pid: number, thread: string): readonly string[] {
  const base = `/proc/${pid}/task/${thread}`;
  const wchan = readOr(`${base}/wchan`);
  if (IDLE.test(wchan)) return [];
  const [syscall = ''] = readOr(`${base}/syscall`).split(' ');
  const frames = readOr(`${base}/stack`).split('\n').filter(Boolean);
  return [`  thread ${thread} wchan ${wchan} syscall ${syscall}`, ...frames.map((frame) => `    ${frame}`)];
}

/** `R`, `S`, `D`, `Z` … or `gone`, of a process or of `PID/task/TID`. */
export function stateOf(pid: number | string): string {
  return /^State:\s+(\S)/m.exec(readOr(`/proc/${pid}/status`))?.[1] ?? 'gone';
}

/** No thread of it runs any more, after SIGSTOP; or there is none. */
export function isStopped(pid: number): boolean {
  return threadsOf(pid).every((thread) => {
    const status = readOr(`/proc/${pid}/task/${thread}/status`);
    return status === '' || /^State:\s+[TZX]/m.test(status);
  });
}

/** Processes that have something open, mapped or as their directory below `path`. */
export function whoUses(path: string): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => usesOf(pid, path));
}

function usesOf(pid: string, path: string): string[] {
  const links = [`/proc/${pid}/cwd`, `/proc/${pid}/root`];
  for (const fd of list(`/proc/${pid}/fd`)) links.push(`/proc/${pid}/fd/${fd}`);
  const open = links.filter((link) => isBelow(target(link), path)).map((link) => `${link} → ${target(link)}`);
  const mapped = readOr(`/proc/${pid}/maps`)
    .split('\n')
    .filter((line) => isBelow(line.slice(line.indexOf('/')), path))
    .map((line) => `/proc/${pid}/maps → ${line.slice(line.indexOf('/'))}`);
  return [...open, ...mapped];
}

function isBelow(candidate: string, path: string): boolean {
  return candidate === path || candidate.startsWith(`${path}/`);
}

function target(link: string): string {
  try {
    return readlinkSync(link);
  } catch {
    return '';
  }
}

function threadsOf(pid: number): string[] {
  return list(`/proc/${pid}/task`);
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

/** A process may end while it is looked at: then there is nothing to read. */
function readOr(path: string): string {
  try {
    return readFileSync(path, 'utf8').trimEnd();
  } catch {
    return '';
  }
}
