import {
  closeFaults,
  GOOD_CALL,
  openFaults,
  wrongCalls,
  type DeviceCall,
  type WrongCall,
} from '../lib/check-order.ts';
import type { Client } from '../lib/client.ts';
import { backingMap, DeviceIoctl } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';

/** Leaves a process everything of root but the one capability that registering asks for. */
const WITHOUT_SYS_ADMIN = ['setpriv', '--bounding-set', '-sys_admin'];
/** An address at which no process has anything. */
const BAD_POINTER = 16;
const ID_BYTES = 4;

type Callers = Readonly<Record<DeviceCall['caller'], Caller>>;
interface Caller {
  readonly client: Client;
  readonly devices: Readonly<Record<DeviceCall['device'], number>>;
  readonly files: Readonly<Record<string, number>>;
}

interface Scene {
  readonly mounted: FuseMount;
  readonly notNegotiated: FuseMount;
  /** A server's descriptor that belongs to no mount. */
  readonly unattached: { readonly pid: number; readonly fd: number };
}

/** Both file and filesystem as the call wants them: `regular, deep`. */
const FILES = {
  'directory, shallow': { path: '.', flags: 'O_RDONLY|O_DIRECTORY' },
  'directory, deep': { path: '/proc', flags: 'O_RDONLY|O_DIRECTORY' },
  'symbolic link, deep': { path: '/proc/self', flags: 'O_PATH|O_NOFOLLOW' },
  'regular, deep': { path: '/proc/version', flags: 'O_RDONLY' },
} as const;

async function callerOf(client: Client, scene: Scene): Promise<Caller> {
  const { mounted, notNegotiated, unattached } = scene;
  const deviceOf = async ({ server }: FuseMount): Promise<number> => {
    return server.lendDevice(client);
  };
  const files: Record<string, number> = { 'none, shallow': -1, 'none, deep': -1 };
  for (const [kind, how] of Object.entries(FILES)) files[kind] = await client.open(how);
  const [regular, link] = [mounted.backing('f'), mounted.backing('link')];
  files['regular, shallow'] = await client.open({ path: regular, flags: 'O_RDWR' });
  files['symbolic link, shallow'] = await client.open({ path: link, flags: 'O_PATH|O_NOFOLLOW' });
  const devices = {
    mounted: await deviceOf(mounted),
    'not negotiated': await deviceOf(notNegotiated),
    unattached: await client.adoptFd(unattached),
  };
  return { client, devices, files };
}

function argumentOf(call: DeviceCall, { files }: Caller, id: number): Uint8Array | number {
  if (call.pointer === 'bad') return BAD_POINTER;
  if (isClose(call)) {
    const argument = new Uint8Array(ID_BYTES);
    const number = { registered: id, impossible: 0, unknown: 999 }[call.id];
    new DataView(argument.buffer).setInt32(0, number, true);
    return argument;
  }
  const fd = files[`${call.file}, ${call.filesystem}`];
  if (fd === undefined) throw new TypeError(`no file for ${call.file}, ${call.filesystem}`);
  return backingMap(fd, call.flags, BigInt(call.padding));
}

function isClose({ request }: DeviceCall): boolean {
  return (request & 0xffff) === (DeviceIoctl.BACKING_CLOSE & 0xffff);
}

/** All calls of one caller in one go. */
async function errnosOf(callers: Callers, calls: readonly WrongCall[], id = 0): Promise<string[]> {
  const errnos = calls.map(() => '');
  for (const [kind, caller] of Object.entries(callers)) {
    const own = [...calls.entries()].filter(([, { call }]) => call.caller === kind);
    const ioctls = own.map(([, { call }]) => {
      const args = { fd: caller.devices[call.device], arg: argumentOf(call, caller, id) };
      return { call: 'ioctl', args: { ...args, request: call.request } } as const;
    });
    const results = await caller.client.batch({ calls: ioctls });
    for (const [at, result] of results.entries()) {
      const [position = 0] = own[at] ?? [];
      errnos[position] = 'errno' in result ? result.errno : 'ok';
    }
  }
  return errnos;
}

async function withCallers(
  guest: TestGuest,
  body: (callers: Callers, scene: Scene) => Promise<void>,
): Promise<void> {
  await using mounted = await guest.mountFuse({ passthrough: 'off' });
  await using notNegotiated = await guest.mountFuse({ passthrough: 'off', init: WITHOUT_PASSTHROUGH });
  await using server = await guest.server();
  await using privileged = await guest.client();
  await using other = await guest.client({ launcher: WITHOUT_SYS_ADMIN });
  await privileged.writeFile({ path: mounted.backing('f'), data: 'x' });
  await privileged.symlink({ target: 'f', path: mounted.backing('link') });
  const scene = {
    mounted,
    notNegotiated,
    unattached: { pid: server.pid, fd: (await server.openDevice()).fd },
  };
  const callers = {
    privileged: await callerOf(privileged, scene),
    'without CAP_SYS_ADMIN': await callerOf(other, scene),
  };
  await body(callers, scene);
}

guestTest(
  'of two things wrong with registering a file the first that is looked at counts (B1-B9)',
  async (t, guest) => {
    await withCallers(guest, async (callers) => {
      const calls = wrongCalls(openFaults(guest.expected), GOOD_CALL);
      const errnos = await errnosOf(callers, calls);
      for (const [at, { name, errno }] of calls.entries()) t.is(errnos[at], errno, name);
      const good = [{ name: 'nothing wrong', call: GOOD_CALL, errno: 'ok' }];
      t.deepEqual(await errnosOf(callers, good), ['ok'], 'nothing wrong');
    });
  },
);

guestTest(
  'of two things wrong with BACKING_CLOSE the first that is looked at counts (B13, B2, B5)',
  async (t, guest) => {
    guest.needs(guest.expected.hasClose, 'BACKING_CLOSE');
    await withCallers(guest, async (callers, { mounted }) => {
      const from = { path: mounted.backing('f'), flags: 'O_RDWR' };
      const id = await mounted.server.registerBacking(from);
      const good: DeviceCall = { ...GOOD_CALL, request: DeviceIoctl.BACKING_CLOSE };
      const calls = wrongCalls(closeFaults(guest.expected), good);
      const errnos = await errnosOf(callers, calls, id);
      for (const [at, { name, errno }] of calls.entries()) t.is(errnos[at], errno, name);
      t.is(await mounted.server.closeBacking(id), 'ok', 'none of them has closed it');
    });
  },
);
