import type { FuseServer } from './fuse-server.ts';
import type { TestGuest } from './guest.ts';

/** Who registers in tests about credentials: nobody else has these ids. */
export const REGISTRAR = { uid: 1234, gid: 4321 } as const;

/** What a server of our kind needs, and no more: CAP_FSETID, say, is not among it. */
const CAPABILITIES = ['sys_admin', 'dac_override', 'chown', 'fowner', 'mknod'] as const;

/** Program put before a server or client that is to register; `further` capabilities by name. */
export function registrarLauncher(further: readonly string[] = []): readonly string[] {
  const list = [...CAPABILITIES, ...further].map((name) => `+${name}`).join(',');
  return [
    'setpriv',
    `--reuid=${REGISTRAR.uid}`,
    `--regid=${REGISTRAR.gid}`,
    '--clear-groups',
    `--inh-caps=${list}`,
    `--ambient-caps=${list}`,
  ];
}

/** A FUSE server that is not root: whatever is done with its credentials can be told from all else. */
export function registrarServer(guest: TestGuest): Promise<FuseServer> {
  return guest.server({ launcher: registrarLauncher() });
}
