import type { Command } from 'commander';
import { ExitCode } from '#runner/lib/failure.ts';
import { probeAccelerator } from '#runner/machine/accelerator.ts';
import { findVirtme } from '#runner/machine/virtme.ts';
import { isHealthy, renderDiagnoses } from '#runner/setup/diagnosis.ts';
import { diagnose } from '#runner/setup/doctor.ts';
import { findBuiltKernel } from '../built-kernel.ts';
import type { Ends } from '../main.ts';

/** What is there, what is missing, and the command that mends it. Changes nothing. */
export function addDoctorCommand(program: Command, ends: Ends): void {
  program
    .command('doctor')
    .description('what is there, what is missing, and the command that mends it')
    .action(async () => {
      const bzImage = await findBuiltKernel();
      const diagnoses = await diagnose({
        // A boot sector proves little: KVM may run one and no kernel.
        probeAccelerator: () => probeAccelerator('auto', { bzImage }),
        findVirtme: () => findVirtme(),
      });
      process.stdout.write(`${renderDiagnoses(diagnoses)}\n`);
      ends(isHealthy(diagnoses) ? ExitCode.passed : ExitCode.infrastructure);
    });
}
