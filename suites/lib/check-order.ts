import { DeviceIoctl } from '#rootfs/protocol/fuse.ts';
import type { Expectations } from './expectations.ts';

/** One call of an ioctl on the device, member by member: what a fault changes in a call that would work. */
export interface DeviceCall {
  readonly request: number;
  readonly device: 'mounted' | 'not negotiated' | 'unattached';
  readonly caller: 'privileged' | 'without CAP_SYS_ADMIN';
  readonly pointer: 'good' | 'bad';
  readonly flags: number;
  readonly padding: number;
  readonly file: 'regular' | 'directory' | 'symbolic link' | 'none';
  readonly filesystem: 'shallow' | 'deep';
  readonly id: 'registered' | 'impossible' | 'unknown';
}

interface Fault {
  readonly name: string;
  readonly change: Partial<DeviceCall>;
  /** What the kernel says; `ok`: this generation does not look. */
  readonly errno: string;
}

/** `nr` and size of a request replaced, as _IOC packs them. */
const FOREIGN_MAGIC = 0x4010_e401;
const UNKNOWN_NUMBER = 0x4010_e570;
const SIZE_OF_TWELVE = 0x400c_e501;
const CLOSE_OF_EIGHT_BYTES = 0x4008_e502;

function requestFaults(expected: Expectations, wrongSize: number): Fault[] {
  return [
    { name: 'foreign magic', change: { request: FOREIGN_MAGIC }, errno: expected.foreignMagic },
    { name: 'unknown number', change: { request: UNKNOWN_NUMBER }, errno: expected.unknownNumber },
    { name: 'wrong size', change: { request: wrongSize }, errno: expected.wrongSize },
  ];
}

function callerFaults(expected: Expectations): Fault[] {
  const unattached: Fault = {
    name: 'device of no mount',
    change: { device: 'unattached' },
    errno: expected.unattached,
  };
  const pointer: Fault = { name: 'bad pointer', change: { pointer: 'bad' }, errno: expected.badPointer };
  const pointerFirst = expected.unattachedBadPointer === expected.badPointer;
  return [
    ...(pointerFirst ? [pointer, unattached] : [unattached, pointer]),
    { name: 'not negotiated', change: { device: 'not negotiated' }, errno: expected.notNegotiated },
    {
      name: 'no capability',
      change: { caller: 'without CAP_SYS_ADMIN' },
      errno: expected.unprivileged,
    },
  ];
}

/** What can be wrong with registering a file, in the order in which the kernel looks. */
export function openFaults(expected: Expectations): readonly Fault[] {
  return [
    ...requestFaults(expected, SIZE_OF_TWELVE),
    ...callerFaults(expected),
    { name: 'flags', change: { flags: 1 }, errno: expected.reservedField },
    { name: 'padding', change: { padding: 1 }, errno: expected.padding },
    { name: 'no descriptor', change: { file: 'none' }, errno: expected.badFd },
    { name: 'directory', change: { file: 'directory' }, errno: expected.directory },
    { name: 'symbolic link', change: { file: 'symbolic link' }, errno: expected.symbolicLink },
    { name: 'too deep', change: { filesystem: 'deep' }, errno: expected.procFile },
  ];
}

/** The same of BACKING_CLOSE. */
export function closeFaults(expected: Expectations): readonly Fault[] {
  return [
    ...requestFaults(expected, CLOSE_OF_EIGHT_BYTES),
    ...callerFaults(expected),
    { name: 'id that cannot be', change: { id: 'impossible' }, errno: 'EINVAL' },
    { name: 'unknown id', change: { id: 'unknown' }, errno: 'ENOENT' },
  ];
}

export const GOOD_CALL: DeviceCall = {
  request: DeviceIoctl.BACKING_OPEN,
  device: 'mounted',
  caller: 'privileged',
  pointer: 'good',
  flags: 0,
  padding: 0,
  file: 'regular',
  filesystem: 'shallow',
  id: 'registered',
};

export interface WrongCall {
  /** `flags and no descriptor`. */
  readonly name: string;
  readonly call: DeviceCall;
  /** Of the fault that the kernel comes to first. */
  readonly errno: string;
}

/** Every fault by itself, and every two that can be in one call. */
export function wrongCalls(faults: readonly Fault[], good: DeviceCall): WrongCall[] {
  const calls: WrongCall[] = [];
  for (const [at, first] of faults.entries()) {
    calls.push({ name: first.name, call: { ...good, ...first.change }, errno: first.errno });
    for (const second of faults.slice(at + 1)) {
      if (Object.keys(first.change).some((key) => key in second.change)) continue;
      calls.push({
        name: `${first.name} and ${second.name}`,
        call: { ...good, ...first.change, ...second.change },
        errno: first.errno === 'ok' ? second.errno : first.errno,
      });
    }
  }
  return calls;
}
