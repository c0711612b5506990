import type { FuseServer } from './fuse-server.ts';
import type { TestGuest } from './guest.ts';

/** Who registers in tests about credentials: nobody else has these ids. */
export const REGISTRAR = { uid: 1234, gid: 4321 } as const;

/** What a server of our kind needs, and no more: CAP_FSETID, say, is not among it. */
const CAPABILITIES = ['sys_admin', 'dac_override', 'chown', 'fowner', 'mknod'] as const;

/** A FUSE server that is not root: whatever is done with its credentials can be told from all else. */
export function registrarServer(
  guest: TestGuest,
  capabilities: readonly string[] = CAPABILITIES,
): Promise<FuseServer> {
  const list = capabilities.map((name) => `+${name}`).join(',');
  const launcher = [
    'setpriv',
    `--reuid=${REGISTRAR.uid}`,
    `--regid=${REGISTRAR.gid}`,
    '--clear-groups',
    `--inh-caps=${list}`,
    `--ambient-caps=${list}`,
  ];
  return guest.server({ launcher });
}
