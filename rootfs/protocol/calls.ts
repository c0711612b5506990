import type { RequestRecord } from './requests.ts';
import type { ServerCalls } from './server-calls.ts';
import type { SyscallName, Syscalls, CallResult } from './syscalls.ts';

export const PROTOCOL_VERSION = 1;

/** A child of the agent, by the number the agent gave it. */
export type ChildId = number;

export interface ExitRecord {
  readonly code: number | null;
  readonly signal: string | null;
}

/** One record of the kernel log. `level` as in syslog(2): 0 emergency … 7 debug. */
export interface KernelLogRecord {
  readonly level: number;
  readonly seq: number;
  /** Microseconds since boot. */
  readonly timeUs: number;
  readonly text: string;
}

export interface KernelTaint {
  readonly mask: number;
}

export type BackingName = 'ext4' | 'tmpfs';

/** What the last test left behind, found before everything was cleaned. */
export interface ResetReport {
  readonly leftMounts: readonly { readonly mountPoint: string; readonly type: string }[];
  readonly leftProcesses: readonly { readonly pid: number; readonly role: string; readonly state: string }[];
  /** The backing filesystem could not be unmounted within the deadline: something still holds it. null: not a mount here. */
  readonly backingBusy: boolean | null;
  /** FUSE connections of the test that would not go away. */
  readonly leftConnections: readonly number[];
  /** What still used the spare disk, in words. */
  readonly leftDevices: readonly string[];
  readonly taint: KernelTaint;
  /** Taint bits that were not set after the previous reset. */
  readonly newTaint: number;
  readonly kernelLog: readonly KernelLogRecord[];
  readonly requestLogs: readonly { readonly server: ChildId; readonly records: readonly RequestRecord[] }[];
  /** Where processes that could not be killed are stuck: state, wchan, kernel stack. */
  readonly stuck: readonly string[];
  /** Kernel objects of which there are more than after any test before, and not only for a moment. */
  readonly leftObjects: readonly { readonly name: string; readonly before: number; readonly now: number }[];
  readonly durationMs: number;
}

export interface RunResult {
  readonly code: number | null;
  readonly signal: string | null;
  readonly stdout: Uint8Array;
  readonly stderr: Uint8Array;
  readonly timedOut: boolean;
}

export interface ChildOptions {
  /** Program and arguments put before the daemon: `setpriv --reuid=1000 …`, `unshare -Ur`. */
  readonly launcher?: readonly string[] | undefined;
  readonly env?: Readonly<Record<string, string>> | undefined;
}

/** What servers and clients alike are asked. */
export interface CommonCalls {
  /** The answer is that it has started. */
  up: { params: Record<string, never>; result: null };
  /** Back to how the process started: no descriptors but its own, no mappings, no session. `clean`: it worked. */
  renew: { params: Record<string, never>; result: { clean: boolean } };
}

/** Requests to the agent. Errors: `unknown-method`, `bad-params`, `no-such-child`, `child-gone`, `deadline`, or an errno. */
export interface AgentCalls {
  hello: {
    params: Record<string, never>;
    result: {
      protocol: number;
      kernelRelease: string;
      node: string;
      pid: number;
      /** Duration of a fixed amount of JavaScript; compares machines. */
      calibrationMs: number;
      devFuse: boolean;
    };
  };
  /** The machine is a copy that has just been restored, and gets a clock, random numbers and a name of its own. */
  restored: { params: { machine: string; epochMs: number; entropy: Uint8Array }; result: null };
  run: {
    params: {
      argv: readonly string[];
      stdin?: Uint8Array | undefined;
      env?: Readonly<Record<string, string>> | undefined;
      cwd?: string | undefined;
      timeoutMs?: number | undefined;
    };
    result: RunResult;
  };
  'dir.make': { params: { in: 'area' | BackingName; name?: string }; result: { path: string } };
  /** The disk that tests may overwrite; null where there is none, as on a machine that is not a guest. */
  'spare-disk.find': { params: Record<string, never>; result: { device: string | null } };
  'server.start': { params: ChildOptions; result: { server: ChildId; pid: number } };
  'server.call': {
    params: { server: ChildId; method: keyof ServerCalls; params: unknown; timeoutMs?: number | undefined };
    result: unknown;
  };
  /** The test needs it no longer: kept for the next one when it is as good as new, else killed. */
  'server.dispose': { params: { server: ChildId }; result: { kept: boolean } };
  'server.kill': { params: { server: ChildId; signal?: string | undefined }; result: ExitRecord | null };
  'client.start': { params: ChildOptions; result: { client: ChildId; pid: number } };
  'client.call': {
    params: { client: ChildId; call: SyscallName; args: unknown; timeoutMs?: number | undefined };
    result: CallResult<unknown>;
  };
  'client.dispose': { params: { client: ChildId }; result: { kept: boolean } };
  'client.kill': { params: { client: ChildId; signal?: string | undefined }; result: ExitRecord | null };
  /** Waits for a child, server or client, to end by itself. */
  'client.wait': { params: { client: ChildId; timeoutMs?: number | undefined }; result: ExitRecord };
  /** Where a process is: state, wchan and kernel stack of every thread. */
  'process.where': { params: { pid: number }; result: { text: string } };
  'mounts.list': {
    params: Record<string, never>;
    result: { mounts: { mountPoint: string; type: string; source: string; minor: number }[] };
  };
  /** Unmounts with a helper of its own, so that the agent cannot hang. */
  'mounts.umount': { params: { mountPoint: string; flags?: string | undefined }; result: CallResult<number> };
  'backing.umount': { params: { backing: BackingName }; result: CallResult<number> };
  'backing.mount': { params: { backing: BackingName }; result: CallResult<number> };
  'connection.abort': { params: { connection: number }; result: null };
  'connection.waiting': { params: { connection: number }; result: { waiting: number | null } };
  'kernel.log': { params: { after?: number | undefined }; result: { records: KernelLogRecord[] } };
  'kernel.mark': { params: { text: string }; result: null };
  'kernel.taint': { params: Record<string, never>; result: KernelTaint };
  reset: { params: { deadlineMs?: number | undefined }; result: ResetReport };
}

export type AgentMethod = keyof AgentCalls;
export type SyscallArgs<K extends SyscallName> = Syscalls[K]['args'];
export type SyscallValue<K extends SyscallName> = Syscalls[K]['value'];
